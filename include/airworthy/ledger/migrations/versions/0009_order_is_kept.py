"""Training sets and recipes keep the order of their keys: the order of a model's inputs is part of the model

Revision: 0009, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # jsonb sorts keys by their length; json keeps what was written.
    for table, column in (("training_set", "ref"), ("candidate", "recipe")):
        op.alter_column(table, column, type_=sa.JSON(), postgresql_using=f"{column}::json")
