"""The port of a staged service: free, and still free when the service listens."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from airworthy.delivery import staging
from airworthy.errors import ServiceUnavailableError


def test_it_is_none_that_the_system_gives_to_outgoing_connections() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    assert {staging._free_port() for _ in range(20)} <= set(range(1024, first))


def test_it_is_none_that_somebody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        taken = other.getsockname()[1]
        monkeypatch.setattr(staging, "PORTS", range(taken, taken + 1))

        with pytest.raises(ServiceUnavailableError, match=f"no free port among {taken} to {taken}"):
            staging._free_port()
