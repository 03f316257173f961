"""Who did what by hand; the kill switch; rehearsals of the way back

Revision: 0013, after 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# A row is what was done: its outcome is filled in once, and only forgetting a key may black words out.
KEPT = """
CREATE FUNCTION human_action_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF (NEW.id, NEW.at, NEW.who, NEW.via, NEW.action, NEW.use_case) = (OLD.id, OLD.at, OLD.who, OLD.via, OLD.action, OLD.use_case)
      AND NEW.run IS NOT DISTINCT FROM OLD.run
      AND (NEW.subject = OLD.subject OR NEW.subject LIKE '%[forgotten]%')
      AND (NEW.why = OLD.why OR NEW.why LIKE '%[forgotten]%')
      AND (NEW.outcome = OLD.outcome OR OLD.outcome = '' OR NEW.outcome LIKE '%[forgotten]%')
    THEN RETURN NEW; END IF;
  END IF;
  RAISE EXCEPTION 'what people did is not rewritten: % is refused', TG_OP
    USING HINT = 'append a row: every action writes its own';
END $$
"""


def upgrade() -> None:
    now = sa.text("now()")
    op.create_table(
        "promotion_pause",
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("use_case", name=op.f("pk_promotion_pause")),
    )
    op.create_table(
        "human_action",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("use_case", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text(), server_default="", nullable=False) for name in ("subject", "why", "outcome")),
        sa.Column("run", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_human_action")),
        sa.UniqueConstraint("run", name=op.f("uq_human_action_run")),
    )
    op.create_table(
        "rollback_drill",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("candidates", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollback_drill")),
    )
    op.execute(KEPT)
    for name, when, what in (
        ("human_action_kept", "BEFORE UPDATE OR DELETE", "ROW"),
        ("human_action_never_emptied", "BEFORE TRUNCATE", "STATEMENT"),
    ):
        op.execute(
            f"CREATE TRIGGER {name} {when} ON human_action FOR EACH {what} EXECUTE FUNCTION human_action_is_kept()"
        )
