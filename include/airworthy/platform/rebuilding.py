"""``python -m airworthy.platform.rebuilding ORDER ANSWER``: make a model once more, from the data versions and a recipe.

The half of ``airworthy reproduce`` that runs the code of the recorded revision, in a process of its own. It reads the lake
and nothing else: no release store, no MLflow, no online store, and a Feast registry of its own, made from the definitions
of this very code. ORDER and ANSWER are JSON files.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

from airworthy.config import UseCase, get_use_case
from airworthy.errors import AirworthyError
from airworthy.records import TrainingSetRef


def rebuild(order: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Build the training set again, fit by the recipe, and measure.

    Args:
        order: ``use_case``, ``training_set`` (its record) and ``recipe``.
        folder: Where the model's files go.

    Returns:
        What came out: digests of data and model, metrics on both parts, a fingerprint of the predictions.
    """
    import numpy as np

    from airworthy.evaluation.metrics import measure
    from airworthy.lake import tables
    from airworthy.training import model_files, rebuild_training_set
    from airworthy.training.building import build_model
    from airworthy.training.candidates import fingerprint
    from airworthy.training.training_set import LABEL, chosen_columns, part

    use_case, started = get_use_case(order["use_case"]), time.monotonic()
    ref = TrainingSetRef.model_validate(order["training_set"])
    # The order of a model's inputs is that of the feature service.
    ref = ref.model_copy(update={"columns": chosen_columns(use_case, list(ref.columns))})
    register_here(use_case)
    rows = rebuild_training_set(use_case, ref, exact=False)
    built = build_model(use_case, ref, order["recipe"], part(rows, "train"), str(folder / "models"))
    holdout = part(rows, "holdout")
    model = model_files.load(built.folder, built.digest)
    labels = np.asarray(holdout[LABEL].to_numpy(zero_copy_only=False), dtype=bool)
    problem = use_case.problem
    judged = measure(
        labels, model.predict_table(holdout), cost_false_alarm=problem.cost_false_alarm, cost_miss=problem.cost_miss
    )
    return {
        "data_digest": tables.digest(rows), "rows": rows.num_rows, "model_digest": built.digest, "metrics": built.metrics,
        "holdout_metrics": judged, "predictions": fingerprint(built.probabilities),
        "requirements": list(model.requirements), "python": platform.python_version(),
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def register_here(use_case: UseCase) -> None:
    """Register the definitions of this code in the Feast registry of the settings; the online store is left alone."""
    from feast import Entity, FeatureService

    from airworthy.features import feast_repo

    store = feast_repo.store(use_case)
    registry: Any = store.registry
    registry.apply_project(_project())
    for thing in feast_repo.feast_objects(use_case):
        if isinstance(thing, Entity):
            registry.apply_entity(thing, feast_repo.PROJECT)
        elif isinstance(thing, FeatureService):
            registry.apply_feature_service(thing, feast_repo.PROJECT)
        else:
            registry.apply_data_source(thing.batch_source, feast_repo.PROJECT)
            registry.apply_feature_view(thing, feast_repo.PROJECT)
    store.refresh_registry()


def _project() -> Any:
    from feast.project import Project

    from airworthy.features.feast_repo import PROJECT

    return Project(name=PROJECT)


def main() -> None:
    """Read the order, rebuild, write the answer; an error of ours is an answer too."""
    order, answer = (Path(name) for name in sys.argv[1:3])
    try:
        found = rebuild(json.loads(order.read_text()), answer.parent)
    except AirworthyError as error:
        found = {"error": error.what, "next_step": error.next_step}
    answer.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
