"""A challenger on trial: the promotion log says with which share of the traffic

Revision: 0010, after 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("promotion", sa.Column("challenger_digest", sa.Text(), nullable=True))
    op.add_column("promotion", sa.Column("share", sa.Float(), server_default="0", nullable=False))
    op.create_check_constraint(
        "ck_promotion_trial",
        "promotion",
        "(challenger_digest IS NOT NULL) = (action IN ('shadow', 'canary')) AND share >= 0 AND share < 1 "
        "AND (action = 'canary') = (share > 0) AND (action IN ('promote', 'rollback') OR from_digest = to_digest)",
    )
