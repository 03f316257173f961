"""The clock for who asks many times a second: it says what ``data_now`` says, also after its connection was ended."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from airworthy.config import Settings, get_settings, get_use_case
from airworthy.ledger.clock import Clock, advance, data_now, wall_now
from airworthy.ledger.database import transaction

DAY = timedelta(days=1)


def end_every_connection() -> None:
    with transaction() as session:
        session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


def connections() -> int:
    with transaction() as session:
        return int(
            session.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")) or 0
        )


def test_it_says_what_the_ledger_says_and_connects_anew(platform_env: Settings) -> None:
    case = get_use_case("flight_delays")
    clock, first = Clock(case), case.data.first_interval.start
    assert clock.now() == first == data_now(case)

    for days in range(1, 4):
        advance(case, first + days * DAY)
        assert clock.now() == first + days * DAY == data_now(case)
        end_every_connection()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: clock.now(), range(100))) == {first + 3 * DAY}
    open_before = connections()
    clock.close()
    assert connections() == open_before - 1
    assert clock.now() == first + 3 * DAY
    clock.close()


def test_the_wall_clock_asks_nobody(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    case = get_use_case("flight_delays")
    monkeypatch.setenv("AIRWORTHY_CLOCK", "wall")
    monkeypatch.setenv("AIRWORTHY_LEDGER_DSN", "postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    get_settings.cache_clear()
    before = wall_now()
    assert before <= Clock(case).now() <= wall_now()
