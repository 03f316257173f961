"""The definition that online values are made by

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("online_watermark", sa.Column("definition", sa.Text(), nullable=True))
