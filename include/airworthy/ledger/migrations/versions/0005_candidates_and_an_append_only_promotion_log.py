"""Candidates with all that a rebuild needs; the promotion log only grows, one link after the other

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Whoever reaches the database by another way than `promote` cannot rewrite history either.
APPEND_ONLY = """
CREATE FUNCTION promotion_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the promotion log is append-only: % is refused', TG_OP
    USING HINT = 'append a row: airworthy rollback, or a delivery';
END $$
"""
LINKED = """
CREATE FUNCTION promotion_is_linked() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE last record;
BEGIN
  SELECT generation, to_digest INTO last FROM promotion
    WHERE use_case = NEW.use_case ORDER BY generation DESC LIMIT 1;
  IF NEW.generation <> coalesce(last.generation, 0) + 1 OR NEW.from_digest IS DISTINCT FROM last.to_digest THEN
    RAISE EXCEPTION 'generation % of % does not follow the promotion log', NEW.generation, NEW.use_case
      USING ERRCODE = 'unique_violation';
  END IF;
  RETURN NEW;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "candidate",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("model_digest", sa.Text(), nullable=False),
        sa.Column("training_set", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("recipe", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("lock", sa.Text(), nullable=False),
        sa.Column("metrics", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("predictions", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_candidate")),
    )
    op.create_index("ix_candidate_model_digest", "candidate", ["model_digest"])
    op.add_column("training_set", sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(APPEND_ONLY)
    op.execute(LINKED)
    for name, when, what, call in (
        ("promotion_append_only", "BEFORE UPDATE OR DELETE", "ROW", "promotion_is_append_only"),
        ("promotion_never_emptied", "BEFORE TRUNCATE", "STATEMENT", "promotion_is_append_only"),
        ("promotion_linked", "BEFORE INSERT", "ROW", "promotion_is_linked"),
    ):
        op.execute(f"CREATE TRIGGER {name} {when} ON promotion FOR EACH {what} EXECUTE FUNCTION {call}()")
