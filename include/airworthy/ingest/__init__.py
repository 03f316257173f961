"""Ingest: landed files and databases -> raw, clean and quarantine tables, one interval at a time."""

from airworthy.ingest.cleaning import clean_rows
from airworthy.ingest.extract import ready, recheck
from airworthy.ingest.interval import RowsLostError, ingest_interval
from airworthy.ingest.overdue import overdue, report_overdue
from airworthy.ingest.parse import parse_rows
from airworthy.ingest.quarantined import contents, entries
from airworthy.ingest.reconcile import arrivals, time_to_wait, wakes
from airworthy.ingest.releasing import release
from airworthy.ingest.schemas import clean_masks, table_schemas

__all__ = [
    "RowsLostError",
    "arrivals",
    "clean_masks",
    "clean_rows",
    "contents",
    "entries",
    "ingest_interval",
    "overdue",
    "parse_rows",
    "ready",
    "recheck",
    "release",
    "report_overdue",
    "table_schemas",
    "time_to_wait",
    "wakes",
]
