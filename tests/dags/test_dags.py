"""Every DAG parses without the heavy libraries, is documented, and is wired as the design says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = {
    "ingest", "arrivals", "train", "experiment", "deliver", "monitor", "rollback", "rollback_drill", "blast_radius", "score",
    "quarantine",
}  # fmt: skip
HEAVY = {
    "pandas",
    "sklearn",
    "mlflow",
    "feast",
    "great_expectations",
    "evidently",
    "duckdb",
    "ibis",
    "pyarrow",
    "deltalake",
}


@pytest.fixture(scope="module")
def bag():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(ROOT / "dags"))


def test_every_file_parses(bag):
    assert bag.import_errors == {}
    assert {d.removeprefix("flight_delays.") for d in bag.dag_ids} == FAMILIES | {
        "platform.housekeeping",
        "platform.drill",
        "platform.pause",
        "platform.resume",
        "platform.release",
    }


def test_every_dag_says_what_it_is_for_and_who_owns_it(bag):
    for dag in bag.dags.values():
        assert dag.doc_md, dag.dag_id
        assert dag.tags, dag.dag_id
        assert dag.owner not in ("", "airflow"), dag.dag_id
        assert dag.max_active_runs <= 3, dag.dag_id


def test_no_task_uses_a_variable_that_partitioned_runs_do_not_have():
    for path in [*(ROOT / "dags").glob("*.py"), *(ROOT / "plugins").glob("*.py")]:
        text = path.read_text()
        for name in ("logical_date", "data_interval", "{{ ds", "ts_nodash"):
            assert name not in text, f"{path.name} uses {name}, which a partitioned run does not have"


def test_a_record_is_one_xcom(bag):
    """Else each field would be an XCom too, and a record's field ``note`` would overwrite the run's note."""
    split = [f"{d.dag_id}.{t.task_id}" for d in bag.dags.values() for t in d.tasks if getattr(t, "multiple_outputs", 0)]
    assert split == []
    assert any(hasattr(t, "multiple_outputs") for d in bag.dags.values() for t in d.tasks)


def test_features_catch_up_whatever_became_of_the_intervals(bag):
    """With another rule one skipped (already published) or failed interval would leave the others without features."""
    for family in ("ingest", "arrivals"):
        assert bag.dags[f"flight_delays.{family}"].task_dict["features"].trigger_rule == "all_done"


def test_a_use_case_with_a_database_looks_every_hour_for_rows_that_changed_late(bag):
    from airflow.sdk import AssetOrTimeSchedule

    from airworthy.config import load_use_case

    spec = importlib.util.spec_from_file_location("arrivals_of_tickets", ROOT / "dags" / "arrivals.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert isinstance(module.build(load_use_case("tiny_tickets")).schedule, AssetOrTimeSchedule)
    assert not isinstance(bag.dags["flight_delays.arrivals"].schedule, AssetOrTimeSchedule)


def test_a_challenger_that_nobody_delivers_is_woken_daily_and_when_a_pause_ends(bag):
    for name in ("platform.housekeeping", "platform.resume"):
        outlets = bag.dags[name].get_task("wake_flight_delays").outlets
        assert [asset.name for asset in outlets] == ["flight_delays/challenger"], name
    assert bag.dags["platform.resume"].get_task("resume").downstream_task_ids == {"wake_flight_delays"}
    assert not bag.dags["platform.pause"].get_task("pause").downstream_task_ids


def test_dag_files_are_wiring():
    for path in (ROOT / "dags").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 90, f"{path.name} is longer than wiring needs"


def test_parsing_is_the_same_twice():
    """Something that changes at each parse would make a new DAG version every time."""
    script = """
import hashlib, json, sys
sys.path.insert(0, "plugins")
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
def digest(dag):
    return hashlib.sha256(json.dumps(DagSerialization.to_dict(dag), sort_keys=True, default=str).encode()).hexdigest()
print()
print(json.dumps({name: digest(dag) for name, dag in sorted(DagBag("dags").dags.items())}))
"""
    runs = [
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    first, second = (json.loads(out.strip().splitlines()[-1]) for out in runs)
    assert first
    assert first == second


def test_parsing_loads_no_heavy_library():
    script = (
        "import sys; sys.path.insert(0, 'plugins')\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        "bag = DagBag('dags')\n"
        "import json; print('\\n' + json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    out = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    loaded = set(json.loads(out.strip().splitlines()[-1]))
    assert loaded & HEAVY == set()


def test_the_monitors_note_tells_of_skew_and_skew_never_keeps_it_from_running(bag):
    """The run's note is the last task's; a failed recomputation must not cost the week its drift and its decision."""
    tasks = bag.dags["flight_delays.monitor"].task_dict
    assert tasks["skew"].downstream_task_ids == {"monitor"}
    assert tasks["monitor"].trigger_rule == "all_done"


def test_the_form_of_an_experiment_offers_the_features_and_asks_no_database(tmp_path, monkeypatch):
    """A form is made at each parse of the file: the names come from what the last training set left."""
    from airworthy.config import get_settings, get_use_case
    from airworthy.training.offered import offer_inputs
    from airworthy_form import experiment_params

    monkeypatch.setenv("AIRWORTHY_VAR", str(tmp_path))
    monkeypatch.setenv("AIRWORTHY_LEDGER_DSN", "postgresql+psycopg://nobody@127.0.0.1:1/nowhere")
    get_settings.cache_clear()
    case = get_use_case("flight_delays")
    try:
        assert "examples" not in experiment_params(case)["features"].schema

        offer_inputs(case, ["wind_speed", "carrier"])

        assert experiment_params(case)["features"].schema["examples"] == ["carrier", "wind_speed"]
    finally:
        get_settings.cache_clear()


@pytest.mark.parametrize(("family", "task", "words"), [
    ("ingest", "clean", "had not landed whole 12 hours after its end; it is taken by .arrivals"),
    ("score", "score", "was not ingested 24 hours after its end; run .score"),
])  # fmt: skip
def test_a_wait_that_is_over_is_not_begun_anew_by_a_retry_and_a_broken_trigger_is(bag, family, task, words):
    from airflow.sdk.bases.operator import TriggerFailureReason
    from airflow.sdk.exceptions import AirflowFailException, TaskDeferralError
    from airflow.sdk.execution_time.context import set_current_context

    said = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: said.update({key: value}))
    context = {"ti": ti, "dag_run": SimpleNamespace(partition_key="2013-01-31", run_id="scheduled")}
    waiting = bag.dags[f"flight_delays.{family}"].task_dict[task]
    assert waiting.retries > 0
    with set_current_context(context):
        with pytest.raises(AirflowFailException, match=words):
            waiting.resume_execution("__fail__", {"error": TriggerFailureReason.TRIGGER_TIMEOUT}, context)
        with pytest.raises(TaskDeferralError):
            waiting.resume_execution("__fail__", {"error": TriggerFailureReason.TRIGGER_FAILURE}, context)
    assert words in said["note"]
