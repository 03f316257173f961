"""A verdict makes one release

Revision: 0015, after 0014
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What a registration that woke up late left before there was this guard: a second challenger, which nobody ever used.
    op.execute(
        "WITH used AS (SELECT unnest(ARRAY[from_digest, to_digest, challenger_digest]) AS digest FROM promotion) "
        "DELETE FROM release late USING release first "
        "WHERE (late.use_case, late.verdict_id) = (first.use_case, first.verdict_id) AND late.digest <> first.digest "
        "AND late.state = 'challenger' AND NOT EXISTS (SELECT FROM used WHERE used.digest = late.digest) "
        "AND (first.state <> 'challenger' OR EXISTS (SELECT FROM used WHERE used.digest = first.digest) "
        "OR (first.created_at, first.digest) < (late.created_at, late.digest))"
    )
    op.create_unique_constraint("uq_release_verdict", "release", ["use_case", "verdict_id"])
