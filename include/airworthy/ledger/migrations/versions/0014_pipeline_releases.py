"""Releases of the pipeline itself

Revision: 0014, after 0013
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def moment(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    default = None if nullable else sa.text("now()")
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "pipeline_release",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("revision", sa.Text(), nullable=False, index=True),
        sa.Column("record", JSONB(), nullable=False),
        sa.Column("staged", JSONB(), nullable=True),
        moment("built_at"),
        moment("staged_at", nullable=True),
    )
    op.create_table(
        "pipeline_request",
        sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=True),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="taken", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        moment("at"),
        moment("updated_at"),
        sa.UniqueConstraint("run", name="uq_pipeline_request_run"),
        sa.CheckConstraint("target IN ('staging', 'production')", name="ck_pipeline_request_target"),
    )
    op.create_table(
        "pipeline_switch",
        sa.Column("generation", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("from_digest", sa.Text(), nullable=True),
        sa.Column("to_digest", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="asked", nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        moment("asked_at"),
        moment("ended_at", nullable=True),
        sa.CheckConstraint("state IN ('asked', 'switched', 'refused', 'fell_back')", name="ck_pipeline_switch_state"),
    )
    # One switch at a time: of two that are asked for, one is inserted.
    op.create_index(
        "uq_pipeline_switch_open",
        "pipeline_switch",
        ["state"],
        unique=True,
        postgresql_where=sa.text("state = 'asked'"),
    )
