"""TCP ports on loopback that nobody listens on now."""

from __future__ import annotations

import socket


def free_ports(count: int) -> list[int]:
    """So many free ports, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def free_port() -> int:
    """A free port."""
    return free_ports(1)[0]


def free_block(size: int) -> int:
    """First of some neighbouring free ports (Airflow's helpers take the ports after its own)."""
    for first in range(21000, 29000, 100):
        try:
            for port in range(first, first + size):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise RuntimeError("no free ports")
