"""What people read about one run over one interval: Data Docs, profiles, and the ledger's validation rows."""

from __future__ import annotations

from collections.abc import Sequence

from airworthy.config import UseCase
from airworthy.ingest.prepare import Prepared
from airworthy.ingest.schemas import clean_masks
from airworthy.intervals import Interval
from airworthy.ledger import commits
from airworthy.ledger.database import transaction
from airworthy.validation import validation_rows, write_data_docs
from airworthy.validation.profile import TableProfile, profiles, write_profiles


def write_reports(
    use_case: UseCase, interval: Interval, resource: str, token: int, parts: Sequence[Prepared]
) -> dict[str, str]:
    """Write the pages and the rows of a run; returns the links of its task.

    Args:
        use_case: The use case.
        interval: The interval.
        resource, token: The claim; the run has folders of its own by its token.
        parts: What was prepared of each source.

    Raises:
        SupersededError: a newer claim exists.
    """
    place = f"{interval.key}/{token}"
    links = {"Profile": write_profiles(use_case.name, place, [_profile(use_case, interval, part) for part in parts])}
    reports = [report for part in parts for report in (part.report, part.clean_report) if report]
    if reports:
        links["Data Docs"] = write_data_docs(use_case.name, place, reports)
        with transaction() as session:
            commits.check_token(resource, token, session)
            session.add_all(validation_rows(use_case, reports, links["Data Docs"]))
    return links


def _profile(use_case: UseCase, interval: Interval, part: Prepared) -> TableProfile:
    """What is published of a source; of a refused file what was read of it."""
    layer, rows = ("raw", part.raw) if part.failures else ("clean", part.clean)
    masks = clean_masks(use_case, part.source) if layer == "clean" else use_case.sources[part.source].masks
    label = use_case.prediction.label if part.source == use_case.prediction.source else ""
    return profiles(rows, masks, title=f"{use_case.table(layer, part.source)} {interval}", label=label)
