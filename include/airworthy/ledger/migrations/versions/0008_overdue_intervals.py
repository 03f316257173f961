"""Intervals that did not land by their deadline

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "overdue_interval",
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("interval", sa.String(length=10), nullable=False),
        sa.Column("lacks", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("data_time", moment, nullable=False),
        sa.Column("arrived", moment, nullable=True),
        sa.Column("at", moment, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("use_case", "interval", name=op.f("pk_overdue_interval")),
    )
