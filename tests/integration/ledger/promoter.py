"""``promoter.py SEED DIGEST...``: a process that makes champions. Each line of its input, a use case, is one decision.

It looks who is champion, dawdles, and then promotes or rolls back to one of the digests; it prints what it was told, as
JSON: ``{"won": [generation, from, to]}``, or ``{"stale": true}``.
"""

from __future__ import annotations

import json
import random
import sys
import time
from datetime import UTC, datetime

from airworthy.errors import StaleVerdictError
from airworthy.ledger import promotions


def decide(rng: random.Random, use_case: str, digests: list[str]) -> dict[str, object]:
    seen = promotions.champion(use_case)
    time.sleep(rng.random() * 0.01)
    choice = rng.choice([f"{use_case}-{d}" for d in digests if seen is None or f"{use_case}-{d}" != seen.digest])
    try:
        won = promotions.promote(
            use_case, choice, expected=seen.digest if seen else None, action=rng.choice(["promote", "rollback"]),
            verdict_id=None, who="test", why="test", data_time=datetime(2024, 2, 1, tzinfo=UTC),
        )  # fmt: skip
    except StaleVerdictError:
        return {"stale": True}
    return {"won": [won.generation, seen.digest if seen else None, won.digest]}


def main() -> None:
    rng = random.Random(int(sys.argv[1]))
    promotions.champion("nobody")  # connected before the first race begins
    say("ready")
    for line in sys.stdin:
        say(json.dumps(decide(rng, line.strip(), sys.argv[2:])))


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
