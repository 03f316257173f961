"""Reports for people: files under ``docs_url``, which the platform serves under ``reports_url``."""

from __future__ import annotations

from airworthy.config import get_settings
from airworthy.training.folders import put


def publish_document(path: str, content: str | bytes) -> str:
    """Write a report, replacing an earlier one of the same path; returns its link.

    Args:
        path: Below ``docs_url``, such as ``verdicts/flight_delays/1f.html``.
        content: The file's content, text as UTF-8.
    """
    put(f"{get_settings().docs_url}/{path}", content.encode() if isinstance(content, str) else content)
    return link(path)


def link(path: str) -> str:
    """The link to a report."""
    return f"{get_settings().reports_url.rstrip('/')}/{path}"


def brief(summary: str, shown: int = 3) -> str:
    """The first few findings of a verdict's summary, and how many more there are."""
    parts = summary.split("; ")
    more = f"; and {len(parts) - shown} more findings" if len(parts) > shown else ""
    return "; ".join(parts[:shown]) + more
