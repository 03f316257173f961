"""Workers are told apart by a number of their own

Revision: 0016, after 0015
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE serving_worker ADD COLUMN IF NOT EXISTS process VARCHAR NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE serving_worker DROP CONSTRAINT pk_serving_worker")
    op.execute(
        "ALTER TABLE serving_worker ADD CONSTRAINT pk_serving_worker PRIMARY KEY (instance, pid, process, use_case)"
    )
