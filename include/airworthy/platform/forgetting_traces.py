"""What else may name a forgotten key: pages of reports, words in the ledger, the logs of tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from typing import Any

from sqlalchemy import select

from airworthy.config import UseCase, get_settings
from airworthy.lake import tables
from airworthy.lake.landing import filesystem
from airworthy.ledger.audit import PLATFORM
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Feedback, HumanAction, IngestedInterval, QuarantineRelease, Validation

GONE = "[forgotten]"
TEXTS = (".html", ".json", ".svg", ".txt")


def word(value: str) -> re.Pattern[str]:
    """The key as a word of its own: ``c07`` is not found in ``c071``."""
    spellings = "|".join(re.escape(text) for text in dict.fromkeys((value, escape(value), json.dumps(value)[1:-1])))
    return re.compile(rf"(?<![A-Za-z0-9_])(?:{spellings})(?![A-Za-z0-9_])")


def from_pages(use_case: UseCase, value: str) -> int:
    """Remove pages of the use case's reports that name the key; of Data Docs the whole run, since its plots cannot be searched.

    Returns:
        How many pages and runs were removed. A later run of the interval writes them anew, without the key.
    """
    fs, root = filesystem(get_settings().docs_url)
    if not fs.exists(root):
        return 0
    sought, doomed = word(value), set()
    for path in map(str, fs.find(root)):
        place = path[len(root) :].strip("/").split("/")
        if use_case.name not in place[:-1] or not path.endswith(TEXTS):
            continue
        if sought.search(bytes(fs.cat_file(path)).decode(errors="ignore")):
            # data_docs/<use case>/<interval>/<run>/...
            whole = place[0] == "data_docs" and len(place) > 4
            doomed.add("/".join([root.rstrip("/"), *place[:4]]) if whole else path)
    for path in doomed:
        fs.rm(path, recursive=True)
    return len(doomed)


def from_ledger(use_case: UseCase, value: str) -> int:
    """Take the key out of what validations, ingests, releases of quarantine, people's actions and feedback say.

    Returns:
        How many rows.
    """
    sought, count = word(value), 0
    with transaction() as session:
        for validation in session.scalars(select(Validation).where(Validation.use_case == use_case.name)):
            clean = _without(validation.report, sought)
            if clean != validation.report:
                validation.report, count = clean, count + 1
        for ingested in session.scalars(select(IngestedInterval).where(IngestedInterval.use_case == use_case.name)):
            clean, reason = _without(ingested.outcome, sought), sought.sub(GONE, ingested.reason)
            if (clean, reason) != (ingested.outcome, ingested.reason):
                ingested.outcome, ingested.reason, count = clean, reason, count + 1
        for release in session.scalars(select(QuarantineRelease).where(QuarantineRelease.use_case == use_case.name)):
            clean = _without(release.outcome, sought)
            if clean != release.outcome:
                release.outcome, count = clean, count + 1
        for action in session.scalars(select(HumanAction).where(HumanAction.use_case.in_((use_case.name, PLATFORM)))):
            before = (action.subject, action.why, action.outcome)
            action.subject, action.why, action.outcome = (sought.sub(GONE, words) for words in before)
            count += (action.subject, action.why, action.outcome) != before
        for said in session.scalars(select(Feedback).where(Feedback.use_case == use_case.name)):
            comment = sought.sub(GONE, said.comment)
            if comment != said.comment:
                said.comment, count = comment, count + 1
    return count


def _without(record: Any, sought: re.Pattern[str], name: str = "") -> Any:
    """A record without the key: examples that name it are dropped, in words it is blacked out. Digests and times stay."""
    if isinstance(record, dict):
        return {key: _without(inner, sought, key) for key, inner in record.items()}
    if isinstance(record, list):
        if name == "examples":
            return [one for one in record if not sought.search(str(one))]
        return [_without(one, sought, name) for one in record]
    if isinstance(record, str) and name in ("reason", "words"):
        return sought.sub(GONE, record)
    return record


def from_logs(names: Iterable[str]) -> int:
    """Write each table's log anew as one checkpoint, and remove the entries before it; returns how many entries went.

    An entry keeps the smallest and the largest value of each column of a file, also of files that are gone. What the
    checkpoint says is about files that are there. The versions before it cannot be read any more; forgetting has removed
    their files already.
    """
    removed = 0
    for name in names:
        handle = tables.open_table(name)
        handle.create_checkpoint()
        version = int(handle.version())
        fs, log = filesystem(f"{tables.url(name)}/_delta_log")
        for path in map(str, fs.ls(log, detail=False)):
            number = re.match(r"(\d{20})\.(json|checkpoint.*\.parquet)$", path.rpartition("/")[2])
            if number and int(number[1]) < version:
                fs.rm_file(path)
                removed += 1
    return removed
