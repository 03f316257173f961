"""What every task used, and what trainings and experiments tried

Revision: 0007, after 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "task_usage",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("run", "use_case", "family", "task")),
        sa.Column("map_index", sa.Integer(), server_default="-1", nullable=False),
        sa.Column("try_number", sa.Integer(), server_default="1", nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("outcome", "executor", "host")),
        *(sa.Column(name, moment, nullable=False) for name in ("started_at", "ended_at")),
        sa.Column("cpu_seconds", sa.Float(), nullable=False),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("bytes_written", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_usage")),
    )
    op.create_index(op.f("ix_task_usage_run"), "task_usage", ["run"])
    op.create_table(
        "attempt",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("run", "use_case", "kind")),
        sa.Column("record", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        *(sa.Column(n, moment, server_default=sa.text("now()"), nullable=False) for n in ("started_at", "updated_at")),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_attempt")),
    )
    op.create_index(op.f("ix_attempt_use_case"), "attempt", ["use_case"])
