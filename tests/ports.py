"""TCP ports on loopback that nobody has now.

They are below those that systems give to outgoing connections, of which one might have a port by the time a server listens.
"""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress

SINGLE = range(10_000, 20_000)
BLOCKS = range(20_000, 29_000, 100)
MOST_WORKERS = 4


def free_ports(count: int) -> list[int]:
    """So many free ports, all different."""
    found = [port for port in random.SystemRandom().sample(SINGLE, count + 100) if _free(port)]
    return found[:count]


def free_port() -> int:
    """A free port."""
    return free_ports(1)[0]


def free_block(size: int) -> int:
    """First of some neighbouring free ports (Airflow's helpers take the ports after its own).

    Each of pytest's processes has blocks of its own: what is chosen here is listened on half a minute later.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for first in BLOCKS[worker % MOST_WORKERS :: MOST_WORKERS]:
        if all(_free(port) for port in range(first, first + size)):
            return first
    raise RuntimeError("no free ports")


def _free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
