"""What each role of a trial did, as counts: workers report them with their heartbeat, the delivery compares them.

Counts are cumulative for each generation of the promotion log and each role, so that a step of a canary, which is a
generation of its own, is compared over its own requests alone, and a lost heartbeat loses nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from airworthy.ledger.database import transaction
from airworthy.ledger.models import ServingTally
from airworthy.ledger.promotions import PROCESS

Role: TypeAlias = Literal["champion", "challenger", "shadow"]

BUCKETS_MS: tuple[float, ...] = tuple(round(10 ** (step / 10), 6) for step in range(-20, 41))
"""Upper bounds of the buckets of times: 0.01 ms to 10 s, each 1.26 times the one before; one more bucket has the rest."""


@dataclass(frozen=True)
class Tally:
    """What one role did.

    Attributes:
        requests: Requests that it was asked to score, whether it could or not.
        errors: Of them, those that it failed: it raised, was not finite, or could not be loaded.
        model_ms: Counts of requests by the time of the model's own scoring, one for each bound of ``BUCKETS_MS`` and one
            more; without the first requests of a loaded model, which are slower.
    """

    requests: int = 0
    errors: int = 0
    model_ms: tuple[int, ...] = (0,) * (len(BUCKETS_MS) + 1)


def bucket(milliseconds: float) -> int:
    """The index in ``Tally.model_ms`` of a time."""
    return bisect_left(BUCKETS_MS, milliseconds)


def report_tally(instance: str, pid: int, use_case: str, generation: int, role: Role, tally: Tally) -> None:
    """Write down what this process counted so far, in place of what it said before.

    Args:
        instance, pid: The worker.
        use_case: The use case.
        generation: Of the promotion log, under which it was counted.
        role: Whose counts these are.
        tally: Cumulative since the process began to serve the generation.
    """
    key = {
        "instance": instance, "pid": pid, "process": PROCESS, "use_case": use_case, "generation": generation, "role": role,
    }  # fmt: skip
    counts = {"requests": tally.requests, "errors": tally.errors, "model_ms": list(tally.model_ms)}
    statement = insert(ServingTally).values(**key, **counts)
    with transaction() as session:
        session.execute(
            statement.on_conflict_do_update(index_elements=list(key), set_={**counts, "reported_at": func.now()})
        )


def tallies(use_case: str, generation: int) -> dict[Role, Tally]:
    """What each role did under a generation, summed over all workers that ever reported it; a role that did nothing is absent."""
    query = select(ServingTally).where(ServingTally.use_case == use_case, ServingTally.generation == generation)
    found: dict[Role, Tally] = {}
    with transaction() as session:
        for row in session.scalars(query):
            role: Role = row.role  # type: ignore[assignment]
            before = found.get(role, Tally())
            times = tuple(a + b for a, b in zip(before.model_ms, row.model_ms, strict=True))
            found[role] = Tally(before.requests + row.requests, before.errors + row.errors, times)
    return found
