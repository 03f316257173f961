"""The definition that online values are made by

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("online_watermark", sa.Column("definition", sa.Text(), nullable=True))
