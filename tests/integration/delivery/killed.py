"""Delivers the tiny use case, killed with SIGKILL right after each kind of write to the ledger, and taken up again each time.

``python killed.py RUN``: prints the kills and the outcome of the run that came through, as JSON. Children are forked from this
process, which has imported everything and used nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import airworthy.delivery
from airworthy.config import UseCase, get_use_case
from airworthy.ledger import deliveries, promotions

MOST = 60


def deliver(use_case: UseCase, kills: Path, run: str) -> dict[str, Any]:
    """One try: killed after the first write of a kind that was not killed at before."""
    known = kills.read_text().split() if kills.exists() else []

    def deadly(module: Any, name: str) -> None:
        real = getattr(module, name)

        def call(*arguments: Any, **more: Any) -> Any:
            result = real(*arguments, **more)
            open_one = deliveries.open_delivery(use_case.name)
            where = f"{name}:{f'{open_one.state}{open_one.step}' if open_one else 'ended'}"
            if where not in known:
                with kills.open("a") as file:
                    file.write(where + "\n")
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(module, name, call)

    for module, names in ((deliveries, ("begin", "move", "note")), (promotions, ("try_out", "promote"))):
        for name in names:
            deadly(module, name)
    return airworthy.delivery.deliver(use_case, run=run).to_json()


def main(run: str, folder: Path) -> None:
    use_case, kills, said = get_use_case("tiny_orders"), folder / "kills", folder / "outcome"
    small = {
        "min_requests": 30,
        "steps": [0.2, 0.4, 0.6],
        "max_p99_ms": 5000.0,
        "idle_wait_s": 60,
        "longest_wait_s": 300,
    }
    use_case = use_case.model_copy(update={"delivery": use_case.delivery.model_copy(update=small)})
    for _ in range(MOST):
        child = os.fork()
        if child == 0:
            said.write_text(json.dumps(deliver(use_case, kills, run)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
    sys.stdout.write(json.dumps({"kills": kills.read_text().split(), "outcome": json.loads(said.read_text())}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
