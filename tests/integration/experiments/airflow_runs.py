"""Runs ``.experiment`` by Airflow's own task runner, in this process, and prints what came of each form as JSON.

``python airflow_runs.py DAGS DAG_ID FORM...``: the forms are JSON. Airflow's database is empty and is migrated here;
``.deliver`` is known to it, so that an event of its asset is queued for it as in production.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.asset import AssetDagRunQueue, AssetEvent
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session
    from sqlalchemy import select

    from airworthy import features
    from airworthy.config import get_use_case

    folder, dag_id, *forms = sys.argv[1:]
    features.apply(get_use_case(dag_id.partition(".")[0]))  # the specification is another than that of the caller
    initdb()
    DagBundlesManager().sync_bundles_to_db()
    dags = {}
    for name in ("experiment", "deliver"):
        bag = DagBag(str(Path(folder) / f"{name}.py"))
        assert bag.import_errors == {}, bag.import_errors
        sync_bag_to_db(bag, "dags-folder", None)
        dags |= bag.dags
    found = []
    for form in forms:
        run = dags[dag_id].test(run_conf=json.loads(form))
        with create_session() as session:
            queued = list(session.scalars(select(AssetDagRunQueue.target_dag_id)))
            events = [event.asset.name for event in session.scalars(select(AssetEvent))]
            states = {ti.task_id: ti.state for ti in run.get_task_instances(session=session)}
        found.append({"state": run.state, "tasks": states, "events": events, "woken": queued})
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
