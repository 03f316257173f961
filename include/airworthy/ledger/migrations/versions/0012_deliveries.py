"""Deliveries and where they stand

Revision: 0012, after 0011
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment, now = sa.DateTime(timezone=True), sa.text("now()")
    json = postgresql.JSONB(astext_type=sa.Text())
    op.create_table(
        "delivery",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("release_digest", sa.Text(), nullable=False),
        sa.Column("champion_digest", sa.Text(), nullable=True),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), server_default="0", nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=True),
        sa.Column("token", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("approver", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("evidence", json, server_default="{}", nullable=False),
        sa.Column("figures", json, server_default="{}", nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("since", moment, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
    )
    op.create_index(
        "uq_delivery_open",
        "delivery",
        ["use_case"],
        unique=True,
        postgresql_where=sa.text("state IN ('staging', 'approval', 'shadow', 'canary', 'promote', 'watch')"),
    )
    op.create_table(
        "delivery_move",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=True),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("figures", json, server_default="{}", nullable=False),
        sa.Column("at", moment, server_default=now, nullable=False),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"], name="fk_delivery_move_delivery"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery_move")),
    )
    op.create_index(op.f("ix_delivery_move_delivery_id"), "delivery_move", ["delivery_id"])
