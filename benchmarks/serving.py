"""The prediction service against MLflow's own server on the same model, and against an app that does nothing.

Three days of flights are landed, ingested and published online on a PostgreSQL of its own in a temporary folder, and a model of
the use case's algorithm is fitted on them, released and promoted. Then these answer in turn, one process each, 16 connections
that are kept alive and always asking, one row a request, a few hundred flights in turn, each for some seconds, several rounds;
medians of the rounds:

* ours, ``/invocations`` with the model's inputs: read, checked, scored, kept in the synced prediction log, answered;
* the same with the log not synced (``AIRWORTHY_SPOOL_SYNC_MS=-1``): what the safety against power loss costs;
* ours, ``/predict``: the same with five feature views looked up in PostgreSQL;
* ``mlflow models serve`` with the same fitted estimator, in a scikit-learn pipeline with the same encoding;
* the same pipeline behind BentoML, in an environment of its own that is installed for this run (its FastAPI is older than ours);
* an empty app: FastAPI with one route that returns a constant, on the same uvicorn.

One client asks all of them: it sends prepared bytes and reads as little of the answer as it must. The probabilities of ours,
MLflow's and BentoML's must be equal.

    make bench BENCH=serving
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from _year import prepare

CONNECTIONS = 16
FLIGHTS = 300
AIMS = {"mlflow": 50.0, "empty": 0.5, "lookup": 0.2}
JSON = "application/json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each server in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-bentoml", action="store_true", help="leave it out, as without a package index")
    parser.add_argument("--empty", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--load", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.empty:
        empty_app(arguments.empty)
    elif arguments.load:
        port, seconds, request = arguments.load
        contents = [one.encode() for one in json.loads(Path(request).read_text())]
        print(json.dumps(asyncio.run(load(int(port), float(seconds), contents))))
    else:
        with tempfile.TemporaryDirectory(prefix="as", dir="/tmp") as name:
            prepare(Path(name))
            print(
                json.dumps(measure(Path(name), arguments.seconds, arguments.rounds, bentoml=not arguments.no_bentoml))
            )


def measure(folder: Path, seconds: float, rounds: int, *, bentoml: bool) -> dict[str, Any]:
    requests, rows = released(folder)
    splits = [{"dataframe_split": {"columns": list(row), "data": [list(row.values())]}} for row in rows]
    ports = free_ports(5)
    bodies: dict[str, tuple[int, str, list[dict[str, Any]]]] = {
        "ours": (ports[0], "/invocations", splits), "unsynced": (ports[1], "/invocations", splits),
        "lookup": (ports[0], "/predict", requests), "mlflow": (ports[2], "/invocations", splits),
        "empty": (ports[3], "/", splits),
    }  # fmt: skip
    if bentoml:
        bodies["bentoml"] = (ports[4], "/predict", [split["dataframe_split"] for split in splits])
    serve = [sys.executable, "-m", "airworthy.serving"]
    mlflow = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder / "mlflow"), "--env-manager", "local"]
    with (
        server(serve, folder / "ours.log", ports[0], "/ready", AIRWORTHY_SERVICE_PORT=str(ports[0])),
        server(
            serve, folder / "unsynced.log", ports[1], "/ready", AIRWORTHY_SERVICE_PORT=str(ports[1]),
            AIRWORTHY_SERVICE_INSTANCE="unsynced", AIRWORTHY_SPOOL_SYNC_MS="-1",
        ),
        server([*mlflow, "-w", "1", "-p", str(ports[2])], folder / "mlflow.log", ports[2], "/ping"),
        server([sys.executable, __file__, "--empty", str(ports[3])], folder / "empty.log", ports[3], "/docs"),
        bento(folder, ports[4]) if bentoml else nullcontext(),
    ):  # fmt: skip
        same_answers(*(bodies[name] for name in ("ours", "mlflow", "bentoml") if name in bodies))
        os.sync()  # what was written so far must not compete with the log for the disk
        found: dict[str, list[dict[str, float]]] = {name: [] for name in bodies}
        for number in range(rounds + 1):
            for name, (port, path, each) in bodies.items():
                measured = asked(folder, port, path, each, seconds)
                if measured["errors"]:
                    raise SystemExit(f"{name}: {measured['errors']:.0f} of {measured['requests']:.0f} requests failed")
                if number:  # the first round warms
                    found[name].append(measured)
    rate = {name: statistics.median(one["requests"] / one["seconds"] for one in each) for name, each in found.items()}
    ratios = {
        "mlflow": rate["ours"] / rate["mlflow"],
        "empty": rate["ours"] / rate["empty"],
        "lookup": rate["lookup"] / rate["empty"],
    }
    return {
        "name": "serving", "metric": "requests a second at 16 connections, one row each, median", "value": round(rate["ours"]),
        "reference": round(rate["mlflow"], 1), "reference_is": "mlflow models serve, one worker, the same model",
        "ratio": round(ratios["mlflow"], 1), "aim": AIMS["mlflow"], "met": all(ratios[name] >= aim for name, aim in AIMS.items()),
        "of_an_empty_app": round(ratios["empty"], 2), "aim_of_an_empty_app": AIMS["empty"],
        "lookup_of_an_empty_app": round(ratios["lookup"], 2), "aim_lookup": AIMS["lookup"],
        "rates": {name: round(value, 1) for name, value in rate.items()},
        "p50_ms": {name: round(statistics.median(one["p50_ms"] for one in each), 2) for name, each in found.items()},
        "p99_ms": {name: round(statistics.median(one["p99_ms"] for one in each), 2) for name, each in found.items()},
        "sync_costs": round(1 - rate["ours"] / rate["unsynced"], 2), "rounds": rounds, "seconds": seconds, "answers_equal": True,
    }  # fmt: skip


def released(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Publish three days, fit, release and promote a model; save it for MLflow too.

    Returns:
        Requests, and the model's inputs for the same flights.
    """
    import numpy as np

    from airworthy import features
    from airworthy.config import get_use_case
    from airworthy.features import catch_up
    from airworthy.ingest import ingest_interval
    from airworthy.intervals import Interval, days
    from airworthy.lake import tables
    from airworthy.ledger.clock import advance
    from airworthy.serving.contract import plain
    from airworthy.training.building import fit_estimator
    from use_cases.flight_delays.replay import World

    case, last = get_use_case("flight_delays"), Interval.of("2013-01-03")
    world = World(case)
    advance(case, world.landing_time(last.key))
    world.land_history(last.key)
    for interval in days(case.data.first_interval, last):
        ingest_interval(case, interval, run="benchmarks/serving")
    catch_up(case, run="benchmarks/serving")
    clean = tables.read(case.table("clean", case.prediction.source))
    asked = dict.fromkeys([*case.prediction.request, case.prediction.time])
    rows = features.historical(case, clean.select(list(asked)))
    columns = features.feature_columns(case)
    labels = np.random.default_rng(7).random(rows.num_rows) < 0.3  # speed does not hang on what it learned
    recipe = case.training
    estimator, encoder, _ = fit_estimator(rows, labels, columns, recipe.algorithm, recipe.parameters, recipe.seed)
    promote(case, columns, rows, estimator, encoder)
    for_mlflow(folder / "mlflow", columns, rows, estimator, encoder)
    some = np.linspace(0, rows.num_rows - 1, FLIGHTS).astype(int)
    requests = rows.select(list(case.prediction.example)).take(some).to_pylist()
    return [{n: plain(v) for n, v in request.items()} for request in requests], rows.select(list(columns)).take(
        some
    ).to_pylist()


def promote(case: Any, columns: dict[str, str], rows: Any, estimator: Any, encoder: Any) -> None:
    from airworthy import features
    from airworthy.ledger import promotions
    from airworthy.ledger.clock import data_now
    from airworthy.records import Check, Verdict
    from airworthy.registry.store import write_release
    from airworthy.training import model_files

    schema = model_files.ModelSchema(
        use_case=case.name, feature_service=case.training.feature_service, feature_digest=features.feature_digest(case),
        columns=columns, view_digests=features.view_digests(case),
    )  # fmt: skip
    digest, where = model_files.write_model(
        model_files.models_url(), estimator=estimator, encoder=encoder, golden=model_files.golden_features(rows, columns),
        schema=schema, card={"title": case.title},
    )  # fmt: skip
    check = Check(name="roc_auc", value=1.0, bound=0.5, reason="absolute", passed=True, words="for a benchmark")
    verdict = Verdict(
        id="benchmark", use_case=case.name, model_digest=digest, champion_digest=None, decision="pass", mode="enabled",
        checks=(check,), metrics={}, champion_metrics={}, holdout_rows=1, training_set_digest="t" * 64, summary="for a benchmark",
        data_time=data_now(case),
    )  # fmt: skip
    release = write_release(model_files.read_folder(where, digest)[1], verdict, run_id="benchmark", version=1)
    promotions.record_verdict(verdict, {})
    promotions.record_release(release)
    promotions.promote(
        case.name, release.digest, expected=None, action="promote", verdict_id=verdict.id, who="benchmark", why="benchmark",
        data_time=data_now(case),
    )  # fmt: skip


def for_mlflow(path: Path, columns: dict[str, str], rows: Any, estimator: Any, encoder: Any) -> None:
    """The same fitted estimator behind scikit-learn's own encoders, as a scikit-learn user would log it."""
    import mlflow.sklearn
    import numpy as np
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    parts: list[tuple[str, Any, list[str]]] = []
    for text, group in itertools.groupby(encoder.columns, key=lambda column: column.categories is not None):
        found = list(group)
        encode: Any = "passthrough"
        if text:
            encode = OrdinalEncoder(
                categories=[list(column.categories) for column in found], handle_unknown="use_encoded_value",
                unknown_value=np.nan, encoded_missing_value=np.nan,
            )  # fmt: skip
        parts.append((f"part{len(parts)}", encode, [column.name for column in found]))
    frame = rows.select(list(columns)).to_pandas()
    encoders = ColumnTransformer(parts).fit(frame)
    mlflow.sklearn.save_model(
        Pipeline([("encode", encoders), ("model", estimator)]), path, serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"], pyfunc_predict_fn="predict_proba",
    )  # fmt: skip


BENTO = """
import bentoml, cloudpickle, pandas

@bentoml.service(workers=1)
class Model:
    def __init__(self):
        with open("mlflow/model.pkl", "rb") as file:
            self.model = cloudpickle.load(file)

    @bentoml.api
    def predict(self, columns: list[str], data: list[list]) -> list[list[float]]:
        return self.model.predict_proba(pandas.DataFrame(data, columns=columns)).tolist()
"""


def bento(folder: Path, port: int) -> AbstractContextManager[None]:
    """BentoML with the pipeline that was saved for MLflow, installed beside, with the versions that it was fitted by."""
    from airworthy.platform.releasing import find_uv

    home = folder / "bentoml"
    pins = [f"{name}=={version(name)}" for name in ("scikit-learn", "numpy", "pandas", "cloudpickle")]
    uv = [find_uv(), "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(home)], check=True)
    subprocess.run([*uv, "pip", "install", "--python", str(home / "bin/python"), "bentoml==1.4.39", *pins], check=True)
    (folder / "bento_model.py").write_text(BENTO)
    command = [str(home / "bin/bentoml"), "serve", "bento_model:Model", "--port", str(port), "--host", "127.0.0.1"]
    return server(
        command, folder / "bentoml.log", port, "/readyz", folder=folder, BENTOML_DO_NOT_TRACK="True",
        BENTOML_HOME=str(folder / "bentos"),
    )  # fmt: skip


def same_answers(ours: tuple[int, str, list[Any]], *theirs: tuple[int, str, list[Any]]) -> None:
    """Hold some of the servers' probabilities against each other."""
    for number in range(0, FLIGHTS, FLIGHTS // 10):
        (one,) = call(ours[0], ours[1], ours[2][number])["predictions"]
        for port, path, bodies in theirs:
            answer = call(port, path, bodies[number])
            ((_, other),) = answer["predictions"] if isinstance(answer, dict) else answer
            if abs(one - other) > 1e-9:
                raise SystemExit(f"the servers do not answer the same: {one} and {other} ({path})")


def call(port: int, path: str, body: Any) -> Any:
    request = Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": JSON})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def asked(folder: Path, port: int, path: str, bodies: list[Any], seconds: float) -> dict[str, float]:
    """Load one server from a process of its own."""
    contents = map(json.dumps, bodies)  # in ASCII
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {JSON}\r\n"
    requests = folder / "requests"
    requests.write_text(json.dumps([f"{head}Content-Length: {len(one)}\r\n\r\n{one}" for one in contents]))
    command = [sys.executable, __file__, "--load", str(port), str(seconds), str(requests)]
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


class Asking(asyncio.Protocol):
    """One connection that asks again as soon as it was answered."""

    def __init__(self, requests: Iterator[bytes], until: float, times: list[float]) -> None:
        self.errors = 0
        self.done = asyncio.get_running_loop().create_future()
        self._requests, self._until, self._times = requests, until, times
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._started = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]):
            return
        now = time.perf_counter()
        self._times.append(now - self._started)
        self.errors += not head.startswith(b"HTTP/1.1 200")
        self._buffer = b""
        if now < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.errors += error is not None
        self.done.set_result(None)


async def load(port: int, seconds: float, contents: list[bytes]) -> dict[str, float]:
    """Ask over 16 connections for some seconds, one after the other of these."""
    requests, times = itertools.cycle(contents), list[float]()
    loop, started = asyncio.get_running_loop(), time.perf_counter()
    asking = []
    for _ in range(CONNECTIONS):
        _, one = await loop.create_connection(lambda: Asking(requests, started + seconds, times), "127.0.0.1", port)
        asking.append(one)
    await asyncio.gather(*(one.done for one in asking))
    elapsed = time.perf_counter() - started
    cuts = statistics.quantiles(times, n=100)
    return {
        "requests": float(len(times)), "errors": float(sum(one.errors for one in asking)), "seconds": elapsed,
        "p50_ms": 1000 * cuts[49], "p99_ms": 1000 * cuts[98],
    }  # fmt: skip


def empty_app(port: int) -> None:
    """What a request costs before anything is done for it."""
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()

    @app.post("/")
    async def nothing() -> dict[str, list[float]]:
        return {"predictions": [0.5]}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


@contextmanager
def server(
    command: list[str], log: Path, port: int, ready: str, *, folder: Path | None = None, **environment: str
) -> Iterator[None]:
    """Run a server until the block ends."""
    with log.open("w") as output:
        # MLflow starts a program of this environment by its name, in a process of its own.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": path, **environment},
            cwd=folder,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}{ready}", timeout=5).close()
                break
            except (URLError, OSError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command}: {error}\n{log.read_text()[-3000:]}") from error
                time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, from below those that outgoing connections are given."""
    import random
    import socket

    found: list[int] = []
    for port in random.sample(range(20_000, 30_000), 1000):
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise SystemExit("no port is free between 20000 and 30000")


if __name__ == "__main__":
    main()
