"""The online store does not answer, or hangs: bounded time, what the views declare, a flag, a metric; and it goes on by itself."""

from __future__ import annotations

import selectors
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import make_url

from airworthy.config import UseCase, get_settings
from ports import free_port

from .test_prediction_api import logged
from .world import ORDER, TESTS, Service, promote, release, service

VIEW = "tiny_orders_customer"
PATIENCE, LONG = 1.5, 4.0


class Between:
    """Stands between the service and its online store: forwards, hangs (takes everything, passes nothing on), or is gone."""

    def __init__(self, server: Path, folder: Path) -> None:
        self.forwards = threading.Event()
        self.forwards.set()
        self._server, self._place = server / ".s.PGSQL.5432", folder / ".s.PGSQL.5432"
        self._open: list[socket.socket] = []
        self._listening: socket.socket | None = None

    def come(self) -> None:
        """Take connections."""
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self._place))
        self._listening.listen()
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def go(self) -> None:
        """Close every connection and take none."""
        if self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._place.unlink()
            self._listening = None
        for one in self._open:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._open.clear()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server))
            self._open += [client, server]
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        waiting = selectors.DefaultSelector()
        waiting.register(client, selectors.EVENT_READ, server)
        waiting.register(server, selectors.EVENT_READ, client)
        try:
            while True:
                for key, _ in waiting.select():
                    data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    self.forwards.wait()
                    if not data:
                        raise OSError
                    key.data.sendall(data)
        except OSError:
            client.close()
            server.close()


@contextmanager
def between(server: str = "") -> Iterator[tuple[Between, str]]:
    with tempfile.TemporaryDirectory(prefix="aw", dir="/tmp") as folder:  # a socket's path is short
        made = Between(Path(server or get_settings().online_host), Path(folder))
        made.come()
        try:
            yield made, folder
        finally:
            made.forwards.set()
            made.go()


def ask(api: Service) -> tuple[bool, float]:
    """Whether the answer is degraded, and the seconds that it took."""
    started = time.monotonic()
    answer = api.post("/predict", ORDER)
    assert answer.status_code == 200, answer.text
    (one,) = answer.json()["predictions"]
    assert one["missing"] == ([VIEW] if one["degraded"] else [])
    return one["degraded"], time.monotonic() - started


def recovers(api: Service) -> None:
    deadline = time.monotonic() + 30
    while ask(api)[0]:
        assert time.monotonic() < deadline, "it never asks the online store again"
        time.sleep(0.1)


def test_without_its_online_store_it_answers_in_bounded_time_as_declared(orders: UseCase, tmp_path: Path) -> None:
    champion = promote(orders, release(orders, seed=1))
    with (
        between() as (store, host),
        service(free_port(), tmp_path, AIRWORTHY_ONLINE_HOST=host, AIRWORTHY_ONLINE_TIMEOUT=str(PATIENCE)) as api,
    ):
        api.wait_generation(orders, champion.generation, 60)
        recovers(api)
        # When it hangs, one request waits for as long as is allowed, and those after it do not wait at all.
        store.forwards.clear()
        times = [ask(api) for _ in range(20)]
        assert {degraded for degraded, _ in times} == {True}
        assert times[0][1] < PATIENCE + 3
        assert sorted(seconds for _, seconds in times[1:])[10] < PATIENCE / 2
        # When it answers again, so does the service with its values; the same when it is gone and comes back.
        store.forwards.set()
        recovers(api)
        store.go()
        assert {ask(api)[0] for _ in range(5)} == {True}
        store.come()
        recovers(api)
        # And it is seen: in the figures, and in the log, where these vectors are not taken for looked-up ones.
        (line,) = [
            line for line in api.get("/metrics").text.split("\n")
            if line.startswith("airworthy_degraded_predictions_total{") and 'use_case="tiny_orders"' in line
        ]  # fmt: skip
        assert float(line.rpartition(" ")[2]) >= 25
    kept = list(logged(orders).values())
    assert {(r["features_from"], tuple(r["missing"])) for r in kept} == {("lookup", ()), ("fallback", (VIEW,))}


def test_a_view_that_declares_nothing_refuses_without_its_online_store(orders: UseCase, tmp_path: Path) -> None:
    # Given a service whose view says nothing of an outage.
    folder = shutil.copytree(TESTS / "use_cases" / "tiny_orders", tmp_path / "use_cases" / "tiny_orders")
    definitions = folder / "features.py"
    declared = definitions.read_text()
    definitions.write_text(declared.replace('        on_outage="null",\n', ""))
    assert definitions.read_text() != declared
    champion = promote(orders, release(orders, seed=1))
    with (
        between() as (store, host),
        service(
            free_port(), tmp_path, AIRWORTHY_ONLINE_HOST=host, AIRWORTHY_ONLINE_TIMEOUT=str(PATIENCE),
            PYTHONPATH=str(folder.parent),
        ) as api,
    ):  # fmt: skip
        api.wait_generation(orders, champion.generation, 60)
        recovers(api)
        # When the store is gone, then nothing is guessed, and the refusal says what is away.
        store.go()
        refused = [api.post("/predict", ORDER) for _ in range(5)]
        assert {answer.status_code for answer in refused} == {503}, refused[0].text
        assert "the online store of tiny_orders cannot be read" in refused[-1].text
        # When it is back, so are the answers.
        store.come()
        deadline = time.monotonic() + 30
        while api.post("/predict", ORDER).status_code == 503:
            assert time.monotonic() < deadline, "it never asks the online store again"
            time.sleep(0.1)
    assert {r["features_from"] for r in logged(orders).values()} == {"lookup"}


def test_a_ledger_that_hangs_keeps_nobody_waiting_for_the_replay_clock(orders: UseCase, tmp_path: Path) -> None:
    champion = promote(orders, release(orders, seed=1))
    dsn = make_url(get_settings().ledger_dsn)
    with between(str(dsn.query["host"])) as (ledger, host):
        behind = dsn.update_query_dict({"host": host}).render_as_string(hide_password=False)
        with service(free_port(), tmp_path, AIRWORTHY_LEDGER_DSN=behind, AIRWORTHY_ONLINE_TIMEOUT=str(LONG)) as api:
            api.wait_generation(orders, champion.generation, 60)
            recovers(api)
            columns = list(api.get("/model").json()["columns"])
            given = {"dataframe_split": {"columns": columns, "data": [[None] * len(columns)]}}
            # When the ledger takes everything and answers nothing,
            ledger.forwards.clear()
            time.sleep(1.5)  # what was seen of the clock is too old by now, for given rows too
            with ThreadPoolExecutor(2) as pool:
                asked = [pool.submit(timed, api, *call) for call in (("/invocations", given), ("/predict", ORDER))]
                time.sleep(0.3)
                # then the event loop goes on,
                assert httpx.get(f"{api.url}/health", timeout=LONG / 2).status_code == 200
                # those who need the moment wait for as long as is allowed, and those after them do not wait at all.
                assert max(one.result() for one in asked) < LONG + 3
            times = [timed(api, *call) for call in (("/invocations", given), ("/predict", ORDER)) for _ in range(10)]
            assert sorted(times)[10] < LONG / 2
            # And it ends when it is told to.
            api.process.terminate()
            api.process.wait(13)
        ledger.forwards.set()


def timed(api: Service, path: str, body: Any) -> float:
    """Seconds until it was answered."""
    started = time.monotonic()
    answer = api.post(path, body)
    assert answer.status_code == 200, answer.text
    return time.monotonic() - started
