"""The production platform without containers: Debian's Redis and PostgreSQL, an S3 API, and our compose services."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from cryptography.fernet import Fernet

from ports import free_ports

from . import compose
from .native import eventually, start, stop, tail

# Ports of the compose file; each gets a free one here.
PORTS = (5432, 6379, 9000, 5500, 8500, 8501, 8580, 8581, 8582, 8583)
PASSWORD = "a-password-of-this-test"
BACKENDS = ("postgres", "redis", "storage")
NEEDED = [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]


class Cluster:
    """Starts the services of docker-compose.yaml, in its order, with its commands, variables and health checks.

    Args:
        postgres_programs: Folder of PostgreSQL's programs.
        redis_server: Redis' program.
        object_store: Port of the S3 API.
        use_cases: Import paths of the use cases, and the folder in which they are found.
    """

    def __init__(
        self, postgres_programs: Path, redis_server: str, object_store: int, use_cases: tuple[str, Path]
    ) -> None:
        # A short path: PostgreSQL keeps a Unix socket in it.
        self.folder = Path(tempfile.mkdtemp(prefix="awp", dir="/tmp"))
        self.folder.chmod(0o711)
        self.logs = self.folder / "process-logs"
        self.logs.mkdir()
        secrets = dict.fromkeys(compose.secret_names(), PASSWORD)
        passwords = self.folder / "airflow_passwords"
        passwords.write_text(compose.passwords_json())
        passwords.chmod(0o400)
        self.compose = compose.load(
            secrets
            | {
                "AIRFLOW_FERNET_KEY": Fernet.generate_key().decode(),
                "AIRFLOW_JWT_SECRET": "a-secret-of-this-test-that-is-long-enough-for-sha-512-0123456789ab",
                "AIRFLOW_PASSWORDS_FILE": str(passwords),
                "AIRWORTHY_USE_CASES": use_cases[0],
                "AIRFLOW_API_WORKERS": "1",
                "AIRFLOW_WORKER_CONCURRENCY": "3",
                "AIRWORTHY_SERVICE_WORKERS": "1",
            }
        )
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True)) | {9000: object_store}
        var = self.folder / "var"
        for name in ("airflow", "logs", "reports", "serving_cache", "spool"):
            (var / name).mkdir(parents=True)
        self.native = compose.Native(var, self.ports, passwords)
        self.native.know(set(self.compose["services"]))
        self.postgres_programs, self.redis_server = postgres_programs, redis_server
        self._more = {
            "PATH": os.pathsep.join([str(postgres_programs), *NEEDED]),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(use_cases[1]), os.environ.get("PYTHONPATH")])),
            "NO_PROXY": "127.0.0.1,localhost",
            "AIRWORTHY_OVERLAY": "searched",  # more trials than one task makes
        }
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        self.seconds: dict[str, float] = {}
        self._ending = ExitStack()
        self._ending.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def env(self, service: str) -> dict[str, str]:
        """A service's whole environment."""
        return self.native.environment(self.compose["services"][service], self._more)

    def url(self, port: int) -> str:
        """Address of a published port."""
        return f"http://127.0.0.1:{self.ports[port]}"

    def up(self) -> None:
        """Start everything; each part is there when its health check says so."""
        for what, action in (("backends", self._backends), ("migrate", self._migrate), ("services", self._services)):
            with self.timed(what):
                action()

    def down(self) -> None:
        """End everything, PostgreSQL and Redis last, and remove the folder."""
        backends = [p for n, p in self.programs.items() if n in BACKENDS]
        stop([p for n, p in self.programs.items() if n not in BACKENDS])
        stop(backends)
        self._ending.close()

    def connect(self, database: str) -> psycopg.Connection[Any]:
        """A connection to PostgreSQL."""
        port = self.ports[5432]
        return psycopg.connect(
            f"host=127.0.0.1 port={port} user=airworthy password={PASSWORD} dbname={database}", autocommit=True
        )

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Keep the seconds of a step."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[what] = round(time.monotonic() - began, 1)

    def words(self) -> str:
        """What every program said last."""
        return "\n".join(f"==> {log.name}\n{tail(log, 1500)}" for log in sorted(self.logs.iterdir()))

    def _start(self, name: str, command: list[str], env: dict[str, str], **options: Any) -> None:
        self.programs[name] = start(command, env, self.logs / f"{name}.log", cwd=self.folder, **options)

    def _backends(self) -> None:
        redis = self.compose["services"]["redis"]
        (self.folder / "redis").mkdir()
        arguments = ["--port", str(self.ports[6379]), "--bind", "127.0.0.1", "--dir", str(self.folder / "redis")]
        self._start("redis", [self.redis_server, *redis["command"][1:], *arguments], {"PATH": os.environ["PATH"]})
        self._postgres()
        check = ["redis-cli", "-p", str(self.ports[6379]), *redis["healthcheck"]["test"][2:]]
        answer = subprocess.run(check, env=self.env("redis"), capture_output=True, text=True, timeout=60, check=False)
        assert answer.stdout.strip() == "PONG", answer.stdout + answer.stderr + tail(self.logs / "redis.log")

    def _postgres(self) -> None:
        service = self.compose["services"]["postgres"]
        given = compose.environment(service)
        home = self.folder / "postgres"
        home.mkdir()
        password = home / "password"
        password.write_text(given["POSTGRES_PASSWORD"])
        # PostgreSQL refuses to run as root, as its image does.
        options: dict[str, Any] = {}
        if os.geteuid() == 0:
            options = {"user": "postgres", "group": "postgres", "extra_groups": []}
            for path in (home, password):
                shutil.chown(path, "postgres", "postgres")
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        command = [
            str(self.postgres_programs / "initdb"), "-D", str(home / "data"), "-U", given["POSTGRES_USER"],
            "-A", "scram-sha-256", "--pwfile", str(password), "--no-sync",
        ]  # fmt: skip
        done = subprocess.run(
            command, env=env, cwd=home, capture_output=True, text=True, timeout=120, check=False, **options
        )
        assert done.returncode == 0, done.stdout + done.stderr
        command = [
            str(self.postgres_programs / "postgres"), "-D", str(home / "data"), "-p", str(self.ports[5432]),
            "-k", str(home), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", *service["command"][1:],
        ]  # fmt: skip
        self._start("postgres", command, env, **options)
        eventually(lambda: self._answers("postgres"), 60, f"PostgreSQL answers: {tail(self.logs / 'postgres.log')}")
        # What the image does when its volume is new: POSTGRES_DB, then the files of initdb.d in it.
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {given['POSTGRES_DB']}")
        (script,) = (v.split(":")[0] for v in service["volumes"] if "initdb.d" in v)
        with self.connect(given["POSTGRES_DB"]) as connection:
            for statement in (compose.ROOT / script).read_text().split(";"):
                connection.execute(statement)
        env = self.env("postgres") | {"PGPORT": str(self.ports[5432])}
        test = self.native.command(service["healthcheck"]["test"])
        done = subprocess.run(test, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _answers(self, database: str) -> bool:
        assert self.programs["postgres"].poll() is None, tail(self.logs / "postgres.log")
        try:
            self.connect(database).close()
        except psycopg.OperationalError:
            return False
        return True

    def _migrate(self) -> None:
        command = self.native.command(self.compose["services"]["migrate"]["command"])
        done = subprocess.run(
            command, env=self.env("migrate"), cwd=self.folder, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _services(self) -> None:
        waiting = {n: s for n, s in compose.ours(self.compose).items() if "healthcheck" in s}
        for name, service in waiting.items():
            self._start(name, self.native.command(service["command"]), self.env(name))
        with ThreadPoolExecutor(len(waiting)) as pool:
            list(pool.map(lambda item: self._healthy(*item), waiting.items()))

    def _healthy(self, name: str, service: dict[str, Any]) -> None:
        test, said = self.native.command(service["healthcheck"]["test"]), ""
        deadline = time.monotonic() + 240
        while True:
            assert self.programs[name].poll() is None, f"{name} ended: {tail(self.logs / f'{name}.log')}"
            done = subprocess.run(test, env=self.env(name), capture_output=True, text=True, timeout=120, check=False)
            if done.returncode == 0:
                return
            said = done.stdout + done.stderr
            assert time.monotonic() < deadline, (
                f"{name} is not healthy:\n{said[-1500:]}\n{tail(self.logs / f'{name}.log')}"
            )
            # A check that starts Python and Airflow costs seconds, and the service is just starting.
            time.sleep(1 if test[0] == "python" else 5)
