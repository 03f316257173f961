"""docker-compose.yaml, Dockerfile and .env.example, held against the package and its programs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from airworthy.config import Settings
from airworthy.config.settings import PROJECT_ROOT
from airworthy.platform import code_identity, environment, reports
from airworthy.platform.programs import PROGRAMS
from airworthy.training import tracking

from . import compose

BIN = Path(sys.executable).parent
COMPOSE = compose.load(compose.dotenv())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = compose.ours(COMPOSE)
AIRFLOW = {name: service for name, service in OURS.items() if name.startswith("airflow-")}
# Ends by itself; everything else runs for as long as the platform does.
ONE_SHOT = {"migrate"}
# Not settings but the place of the code, which settings are read with.
NOT_SETTINGS = {"AIRWORTHY_PROJECT_ROOT"}
VOLUMES = "/var/lib/airworthy"


def commands() -> list[tuple[str, list[str]]]:
    """(service, program with its arguments): commands and health checks of our image."""
    lines = [(name, service["command"]) for name, service in OURS.items()]
    lines += [(name, service["healthcheck"]["test"]) for name, service in OURS.items() if "healthcheck" in service]
    return [(name, program) for name, line in lines for program in compose.programs(line)]


def in_python(code: str, *arguments: str, folder: Path) -> Any:
    """What a fresh Python prints as JSON in its last line; in a home of its own, since Airflow writes files there."""
    env = {n: v for n, v in os.environ.items() if not n.startswith(("AIRFLOW", "AIRWORTHY", "MLFLOW"))}
    env |= {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


# ---- secrets


@pytest.mark.parametrize("name", compose.secret_names())
def test_it_refuses_to_start_without_a_secret(name: str) -> None:
    given = compose.dotenv()
    del given[name]

    with pytest.raises(compose.RefusedError, match=f"^{name}: set {name} in .env$"):
        compose.load(given)
    with pytest.raises(compose.RefusedError, match=name):
        compose.load(given | {name: ""})


def test_every_secret_is_in_the_example_and_none_has_a_value_there() -> None:
    text = (compose.ROOT / "docker-compose.yaml").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?", text))

    assert needed == set(compose.secret_names())
    assert set(re.findall(r"\$\{(\w+):-", text)).isdisjoint(needed)
    for name in re.findall(r"\$\{(\w+):-", text):
        assert not re.search("PASSWORD|SECRET|KEY|TOKEN", name), f"{name} would have a value that everybody knows"


def test_no_secret_stands_in_the_files_themselves() -> None:
    for service, found in SERVICES.items():
        for name, value in compose.environment(found).items():
            if re.search(
                r"PASSWORD$|SECRET|FERNET_KEY|API_KEY|ACCESS_KEY|_DSN$|_CONN$|BROKER_URL|RESULT_BACKEND", name
            ):
                assert "value-of-" in value, f"{service}: {name} does not come from .env"


def test_only_the_api_server_sees_the_passwords_and_it_works_on_a_copy() -> None:
    assert [name for name, service in SERVICES.items() if "secrets" in service] == ["airflow-apiserver"]
    (install, _) = compose.programs(SERVICES["airflow-apiserver"]["command"])
    copy = compose.environment(SERVICES["airflow-apiserver"])["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]

    assert install == ["install", "-m", "600", "/run/secrets/airflow_passwords", copy]


# ---- variables


def test_every_airworthy_variable_is_a_setting() -> None:
    known = {f"AIRWORTHY_{name.upper()}" for name in Settings.model_fields} | NOT_SETTINGS
    for service, found in OURS.items():
        names = {n for n in compose.image_environment() | compose.environment(found) if n.startswith("AIRWORTHY_")}
        assert names <= known, f"{service}: {sorted(names - known)}"


@pytest.mark.parametrize("service", OURS)
def test_the_settings_can_be_read_from_each_environment(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("AIRWORTHY_")]:
        monkeypatch.delenv(name)
    given = compose.image_environment() | compose.environment(OURS[service])
    for name, value in given.items():
        if name.startswith("AIRWORTHY_"):
            monkeypatch.setenv(name, value)
    settings = Settings()

    assert settings.env == "prod"
    assert settings.lake_url == "s3://airworthy/lake"
    assert "@postgres:5432/ledger" in settings.ledger_dsn
    assert settings.spool == Path(given["AIRWORTHY_SPOOL"])
    assert settings.service_api_key is not None


def test_every_airflow_variable_is_an_option_of_this_airflow(tmp_path: Path) -> None:
    code = (
        "import json\n"
        "from airflow.configuration import conf\n"
        "from airflow.utils.providers_configuration_loader import providers_configuration_loaded\n"
        "providers_configuration_loaded(lambda: None)()\n"
        "print(json.dumps({s: sorted(d['options']) for s, d in conf.configuration_description.items()}))\n"
    )
    options = in_python(code, folder=tmp_path)
    assert "broker_url" in options["celery"]
    for service, found in AIRFLOW.items():
        for name in compose.environment(found):
            if name.startswith("AIRFLOW__"):
                _, section, option = name.split("__", 2)
                assert option.lower() in options.get(section.lower(), []), f"{service}: {name} is no option"


def test_the_variables_agree_with_the_embedded_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("AIRWORTHY_")]:
        monkeypatch.delenv(name)
    embedded = environment.airflow_env(Settings(var=VOLUMES))
    there = {n: v.replace(str(PROJECT_ROOT), "/opt/airworthy") for n, v in embedded.items()}
    here = compose.image_environment() | compose.environment(SERVICES["service"])
    here |= compose.environment(SERVICES["airflow-worker"])
    # Embedded, one machine runs everything on loopback and tells processes apart by their environment.
    embedded_only = {"SPT_NOENV"}
    differ = {
        "AIRFLOW__API__HOST",
        "AIRFLOW__API__WORKERS",
        "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
        "AIRFLOW__CORE__EXECUTOR",
        "AIRFLOW__CORE__PARALLELISM",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRWORTHY_ENV",
        "AIRWORTHY_MLFLOW_URL",
        "AIRWORTHY_SERVICE_HOST",
        "AIRWORTHY_SERVICE_URL",
        "MLFLOW_TRACKING_URI",
    }
    assert set(there) - set(here) == embedded_only
    assert {name for name in set(there) & set(here) if there[name] != here[name]} == differ


def test_mlflow_gets_what_the_embedded_one_gets() -> None:
    embedded = environment.mlflow_env(Settings(var=VOLUMES))
    here = compose.environment(SERVICES["mlflow"])
    differ = {"MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"}

    assert set(embedded) - set(here) == {"SPT_NOENV"}
    assert {name for name in set(embedded) & set(here) if embedded[name] != here[name]} == differ
    assert here["MLFLOW_BACKEND_STORE_URI"] == compose.environment(SERVICES["migrate"])["MLFLOW_BACKEND_STORE_URI"]


def test_every_part_of_airflow_has_the_same_environment() -> None:
    first, *others = [compose.environment(service) for service in AIRFLOW.values()]
    assert all(other == first for other in others)
    migrate = compose.environment(SERVICES["migrate"])
    assert {name: migrate[name] for name in first} == first
    service = compose.environment(SERVICES["service"])
    shared = {name for name in first if name.startswith(("AIRWORTHY_", "AWS_"))}
    assert {name: service[name] for name in shared} == {name: first[name] for name in shared}


# ---- programs


def test_every_program_of_the_embedded_platform_has_its_service() -> None:
    names = {name.removeprefix("airflow-").replace("apiserver", "api-server") for name in SERVICES}
    assert names - {"redis", "storage", "migrate", "worker"} == set(PROGRAMS)


def test_every_command_starts_a_program_of_the_image() -> None:
    system = {"sh", "install"}
    for service, (program, *_) in commands():
        present = (BIN / program).exists() if program not in system else bool(shutil.which(program))
        assert present, f"{service}: {program}"


def test_every_module_and_line_of_python_is_right() -> None:
    for service, (program, *arguments) in commands():
        if program != "python":
            continue
        kind, what, *flags = arguments
        if kind == "-c":
            compile(what, service, "exec")
            assert not flags
            continue
        assert kind == "-m"
        assert importlib.util.find_spec(what) is not None, f"{service}: {what}"
        assert what in ("airworthy.serving", "airworthy.platform.reports"), "flags of another module are not checked"
        if what == "airworthy.platform.reports":
            assert reports.arguments(Settings(), flags).host == "0.0.0.0"
        else:
            assert not flags, "the prediction service takes its settings from the environment"


def test_airflow_accepts_every_command(tmp_path: Path) -> None:
    given = [arguments for _, (program, *arguments) in commands() if program == "airflow"]
    code = (
        "import json, sys\n"
        "from airflow.cli import cli_parser\n"
        "parser = cli_parser.get_parser()\n"
        "found = [vars(parser.parse_args(line)).get('subcommand') for line in json.loads(sys.argv[1])]\n"
        "print(json.dumps(found))\n"
    )
    assert {"api-server", "scheduler", "dag-processor", "triggerer", "celery", "jobs"} <= {line[0] for line in given}

    assert len(in_python(code, json.dumps(given), folder=tmp_path)) == len(given)


def test_mlflow_accepts_its_command(tmp_path: Path) -> None:
    ((_, command),) = [(s, c) for s, c in commands() if c[0] == "mlflow"]
    code = (
        "import json, sys\n"
        "from mlflow.cli import cli\n"
        "name, *flags = json.loads(sys.argv[1])\n"
        "context = cli.get_command(None, name).make_context(name, flags)\n"
        "print(json.dumps({k: v for k, v in context.params.items() if isinstance(v, str | int)}))\n"
    )
    accepted = in_python(code, json.dumps(command[1:]), folder=tmp_path)

    assert accepted["host"] == "0.0.0.0"
    assert str(accepted["port"]) == "5500"
    assert "mlflow:5500" in accepted["allowed_hosts"]


def test_our_own_commands_have_these_names() -> None:
    from typer.testing import CliRunner

    from airworthy.cli import app

    mine = [arguments for _, (program, *arguments) in commands() if program == "airworthy"]
    assert mine == [["migrate"]]
    for arguments in mine:
        assert CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0


def test_celery_can_be_started_with_this_executor(tmp_path: Path) -> None:
    """Celery and Airflow's provider of it are released apart: some versions do not fit together."""
    ((_, ping),) = [(s, c) for s, c in commands() if c[0] == "celery"]
    module, _, attribute = ping[ping.index("-A") + 1].rpartition(".")
    code = f"import importlib, json\nprint(json.dumps(type(getattr(importlib.import_module({module!r}), {attribute!r})).__name__))\n"

    assert in_python(code, folder=tmp_path) == "Celery"
    assert ping[-1] == "celery@$(hostname)"


# ---- what each service may do, and what it shares


def test_our_image_never_runs_as_root() -> None:
    assert set(OURS) == set(SERVICES) - {"postgres", "redis", "storage"}
    for name, service in OURS.items():
        user, _, group = service["user"].partition(":")
        assert min(int(user), int(group)) >= 1000, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cap_drop"] == ["ALL"], name
        assert not service.get("privileged")


def test_everything_that_runs_has_a_health_check_and_comes_back() -> None:
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == ONE_SHOT
    for name, service in SERVICES.items():
        check = service.get("healthcheck", {"test": ["CMD"], "retries": 1})
        assert check["test"][0] in ("CMD", "CMD-SHELL"), name
        assert check["retries"] >= 1, name
        assert not check.get("disable"), name
        assert service["restart"] == ("on-failure" if name in ONE_SHOT else "unless-stopped"), name


def test_nothing_starts_before_the_schemas_are_there() -> None:
    waits = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    assert waits["migrate"] == {
        "postgres": {"condition": "service_healthy"},
        "storage": {"condition": "service_healthy"},
    }
    for name in set(OURS) - ONE_SHOT:
        assert waits[name]["migrate"] == {"condition": "service_completed_successfully"}, name
    for name in AIRFLOW:
        assert waits[name]["redis"] == {"condition": "service_healthy"}, name


def test_ports_are_published_on_loopback_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"mlflow", "airflow-apiserver", "service", "reports"}
    for name, ports in published.items():
        for port in ports:
            address, outside, inside = port.split(":")
            assert address == "127.0.0.1", f"{name} would be reachable from elsewhere"
            assert outside == inside
            assert f"127.0.0.1:{inside}/" in SERVICES[name]["healthcheck"]["test"][-1], (
                f"{name}: another port is checked"
            )


def mounts(service: str) -> dict[str, str]:
    """Volume or file to the path in the container."""
    return dict(volume.split(":")[:2] for volume in SERVICES[service].get("volumes", []))


def test_what_must_be_shared_is_shared() -> None:
    worker = compose.environment(SERVICES["airflow-worker"])

    assert {n for n in OURS if "spool" in mounts(n)} == {"service", "airflow-worker"}
    assert {mounts(n)["spool"] for n in ("service", "airflow-worker")} == {worker["AIRWORTHY_SPOOL"]}
    readers_and_writer = {"reports", "airflow-worker", "airflow-dag-processor"}
    assert {n for n in OURS if "reports" in mounts(n)} == readers_and_writer
    assert {mounts(n)["reports"] for n in readers_and_writer} == {worker["AIRWORTHY_DOCS_URL"]}
    assert {n for n in OURS if "logs" in mounts(n)} == set(AIRFLOW)
    for name in AIRFLOW:
        assert worker["AIRFLOW__LOGGING__BASE_LOG_FOLDER"].startswith(mounts(name)["logs"] + "/")
    assert mounts("service")["serving-cache"] == f"{VOLUMES}/serving_cache"


def test_every_volume_is_declared_used_and_owned_by_the_user_of_the_image() -> None:
    used = {volume for name in SERVICES for volume in mounts(name) if not volume.startswith(".")}
    assert used == set(COMPOSE["volumes"])
    (made,) = [rest for word, rest in compose.instructions() if word == "RUN" and "mkdir -p" in rest]
    for name in OURS:
        for path in mounts(name).values():
            assert path in made.split(), f"{name}: {path} would belong to root"
    assert f"chown -R airworthy:airworthy {VOLUMES}" in made
    for name in SERVICES:
        for source in mounts(name):
            assert not source.startswith(".") or (compose.ROOT / source).exists(), source


def test_workers_listen_on_the_queue_that_tasks_go_to() -> None:
    command = SERVICES["airflow-worker"]["command"]
    given = compose.environment(SERVICES["airflow-worker"])
    assert command[command.index("--queues") + 1].split(",") == [given["AIRFLOW__OPERATORS__DEFAULT_QUEUE"]]


def test_every_database_that_is_asked_for_is_made() -> None:
    script = (compose.ROOT / "deploy/postgres/databases.sql").read_text()
    made = set(re.findall(r"CREATE DATABASE (\w+);", script)) | {SERVICES["postgres"]["environment"]["POSTGRES_DB"]}
    wanted = {
        match
        for service in OURS.values()
        for value in compose.environment(service).values()
        for match in re.findall(r"@postgres:5432/(\w+)$", value)
    }
    online = compose.environment(SERVICES["service"])["AIRWORTHY_ONLINE_DATABASE"]

    assert wanted | {online} == made


def test_every_host_that_is_named_is_a_service() -> None:
    for name, service in OURS.items():
        for variable, value in compose.environment(service).items():
            for host in re.findall(r"(?:://|@)([a-z][\w-]*):\d+", value):
                assert host in SERVICES, f"{name}: {variable} names {host}"


def test_the_file_has_no_form_that_is_not_checked_here() -> None:
    known = {
        "image", "build", "user", "init", "restart", "security_opt", "cap_drop", "command", "environment", "volumes",
        "depends_on", "healthcheck", "ports", "secrets", "stop_grace_period",
    }  # fmt: skip
    for name, service in SERVICES.items():
        assert set(service) <= known, name
    assert set(COMPOSE) == {"services", "volumes", "secrets"}
    assert set(yaml.safe_load((compose.ROOT / "docker-compose.yaml").read_text())) - set(COMPOSE) == {
        "x-airworthy", "x-environment", "x-airflow-environment", "x-airflow",
    }  # fmt: skip


# ---- the image


def test_the_image_ends_as_an_ordinary_user() -> None:
    users = [rest for word, rest in compose.instructions() if word == "USER"]
    assert users == [SERVICES["service"]["user"]]
    after = [word for word, _ in compose.instructions()]
    assert after.index("USER") > max(i for i, word in enumerate(after) if word in ("RUN", "COPY"))
    made = " ".join(rest for word, rest in compose.instructions() if word == "RUN")
    assert "--uid 50000 --gid 50000" in made


def test_the_image_is_built_from_the_lock() -> None:
    runs = [rest for word, rest in compose.instructions() if word == "RUN"]
    syncs = [part for rest in runs for part in rest.split("&&") if "uv sync" in part]
    assert len(syncs) == 2
    for sync in syncs:
        assert {"--locked", "--no-dev", "--compile-bytecode"} <= set(shlex.split(sync))
    makefile = (compose.ROOT / "Makefile").read_text()
    (version,) = re.findall(r"^UV_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert any(f"uv=={version} " in rest for rest in runs)


REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("given", [REVISION, f"{REVISION}-dirty"])
def test_a_training_in_the_image_records_the_revision_that_it_was_built_from(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it `airworthy reproduce` could check nothing out: there is no history in the image."""
    (write,) = [rest for word, rest in compose.instructions() if word == "RUN" and "REVISION" in rest]
    assert "REVISION" in {rest.split("=")[0] for word, rest in compose.instructions() if word == "ARG"}
    assert compose.load({**compose.dotenv(), "REVISION": given})["services"]["service"]["build"]["args"] == {
        "REVISION": given
    }

    subprocess.run(["sh", "-ec", write], cwd=tmp_path, env={**os.environ, "REVISION": given}, check=True)
    monkeypatch.setattr(tracking, "REPOSITORY", tmp_path)

    assert tracking.revision() == given
    # And tasks run: the folder's package is the folder itself, as in a checkout.
    assert code_identity.released_with(tmp_path) == f"checkout {tmp_path}"


def test_an_image_that_was_built_without_a_revision_says_unknown_and_a_wrong_one_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (write,) = [rest for word, rest in compose.instructions() if word == "RUN" and "REVISION" in rest]
    monkeypatch.setattr(tracking, "REPOSITORY", tmp_path)

    def build(given: str) -> int:
        done = subprocess.run(["sh", "-ec", write], cwd=tmp_path, env={**os.environ, "REVISION": given}, check=False)
        return done.returncode

    assert (build(""), list(tmp_path.iterdir()), tracking.revision()) == (0, [], "unknown")
    for wrong in ("main", REVISION[:12], f'{REVISION}"'):
        assert build(wrong) != 0, wrong
        assert list(tmp_path.iterdir()) == []


def test_the_python_of_the_image_is_one_that_we_support() -> None:
    (base,) = [rest for word, rest in compose.instructions() if word == "FROM"]
    found = re.fullmatch(r"python:3\.(\d+)-slim-\w+", base)
    wanted = tomllib.loads((compose.ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", wanted).groups()  # type: ignore[union-attr]
    assert found is not None
    assert int(low) <= int(found[1]) < int(high)


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    copied = [shlex.split(rest)[:-1] for word, rest in compose.instructions() if word == "COPY"]
    sources = {source for line in copied for source in line}
    for source in sources:
        assert (compose.ROOT / source).exists(), source
        assert not compose.ignored(source), f".dockerignore leaves out {source}"
    for private in (".env", ".git", "var", "tests", ".venv", "docs"):
        assert compose.ignored(private), f"{private} would be sent to the build"
    # All that running needs: code, wiring, suites, the lock that model cards cite.
    needed = {
        "include",
        "dags",
        "plugins",
        "airflow",
        "feature_repo",
        "great_expectations",
        "uv.lock",
        "pyproject.toml",
    }
    assert needed <= {source.removeprefix("./") for source in sources}
