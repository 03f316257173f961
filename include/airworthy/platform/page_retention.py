"""Which pages of reports stay: the newest of each thing, and those of what is still there; older ones go with their age.

===========================================  ==========================================================
``data_docs/<use case>/<interval>/<token>``     the newest run of the interval
``.../features/<view>-<token>``                 the newest build of the view
``.../scores/<interval>-<token>``               the newest scores of the interval
``.../training/<digest>``                       as long as the training set's file is there
``.../predictions/<window>/<run>``              the newest look at the window; of windows, those of a year
===========================================  ==========================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from airworthy.config import UseCase, get_settings
from airworthy.lake.landing import filesystem
from airworthy.ledger.clock import wall_now

WINDOWS = timedelta(days=365)
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def remove_old_pages(use_case: UseCase, keep: timedelta) -> int:
    """Remove Data Docs that a later run replaced, or whose subject is gone, when they are older than ``keep``.

    Returns:
        How many runs' pages were removed.
    """
    fs, root = filesystem(f"{get_settings().docs_url}/data_docs/{use_case.name}")
    if not fs.exists(root):
        return 0
    now = wall_now()
    folders = {_name(path): path for path in _folders(fs, root)}
    replaced = [run for name, path in folders.items() if DAY.fullmatch(name) for run in _but_newest(_folders(fs, path))]
    for kind in {"features", "scores"} & set(folders):
        replaced += _but_newest_of_each(_folders(fs, folders[kind]))
    if "training" in folders:
        kept = _training_sets()
        replaced += [run for run in _folders(fs, folders["training"]) if _name(run) not in kept]
    doomed = {run for run in replaced if _written(fs, run, now) < now - keep}
    for window in _folders(fs, folders["predictions"]) if "predictions" in folders else ():
        runs = sorted(_folders(fs, window), key=lambda run: _written(fs, run, now))
        doomed.update(run for run in runs[:-1] if _written(fs, run, now) < now - keep)
        doomed.update(run for run in runs[-1:] if _written(fs, run, now) < now - max(keep, WINDOWS))
    for run in doomed:
        fs.rm(run, recursive=True)
    return len(doomed)


def _but_newest(runs: Iterable[str]) -> list[str]:
    """Runs are named by their fencing token."""
    numbered = [run for run in runs if _name(run).isdigit()]
    return sorted(numbered, key=lambda run: int(_name(run)))[:-1]


def _but_newest_of_each(runs: Iterable[str]) -> list[str]:
    """Builds and scores are named by their view or interval and their fencing token."""
    views: dict[str, list[str]] = {}
    for run in runs:
        view, _, token = _name(run).rpartition("-")
        if token.isdigit():
            views.setdefault(view, []).append(run)
    return [run for each in views.values() for run in sorted(each, key=lambda r: int(r.rpartition("-")[2]))[:-1]]


def _training_sets() -> set[str]:
    """First digits of the digests of the training sets that are there, as their pages are named."""
    fs, root = filesystem(f"{get_settings().release_url}/training_sets")
    return {_name(path)[:16] for path in map(str, fs.ls(root, detail=False))} if fs.exists(root) else set()


def _folders(fs: Any, path: str) -> list[str]:
    return [str(one["name"]).rstrip("/") for one in fs.ls(path, detail=True) if one["type"] == "directory"]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _written(fs: Any, run: str, now: datetime) -> datetime:
    for page in ("index.html", "profile/index.html"):  # without a suite there is a profile alone
        try:
            moment: datetime = fs.modified(f"{run}/{page}")
        except FileNotFoundError:
            continue
        return moment
    return now  # being written
