"""What the form of ``.rollback`` offers: a small file, written at each switch, since a DAG file must not ask the ledger."""

from __future__ import annotations

import json
import logging

from airworthy.config import UseCase, get_settings
from airworthy.delivery.rollback import candidates
from airworthy.lake.landing import write_file

log = logging.getLogger(__name__)


def offer(use_case: UseCase) -> None:
    """Write down the releases that a rollback may go to; the newest first, with the words that a person chooses by.

    A form without it still takes any digest: what goes wrong here is logged, and costs no switch.
    """
    try:
        found = [
            f"{c.digest[:12]} v{c.version}, champion from {c.served_from:%Y-%m-%d %H:%M}"
            + (", rolled back from" if c.withdrawn else "")
            for c in candidates(use_case)
        ]
        write_file(str(get_settings().forms), f"{use_case.name}.rollback.json", json.dumps(found).encode())
    except Exception:
        log.exception("the form of %s.rollback does not offer the newest releases", use_case.name)
