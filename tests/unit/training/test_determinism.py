"""The same rows and recipe give the same files, byte for byte: again, in another process, with other threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airworthy.training.building import fit_estimator
from airworthy.training.model_files import ModelSchema, golden_features, write_model

from .models import ALGORITHMS, COLUMNS, labels, rows

ROOT = Path(__file__).resolve().parents[2]


# Of each kind one; more threads than quiet cores are slow, so the small ones.
CHOSEN = [ALGORITHMS[i] for i in (1, 2, 4, 5, 7)]


def digest(algorithm: str, parameters: dict[str, Any]) -> str:
    """Digest over the files of a model that is fitted on 2,000 rows."""
    table = rows(2000)
    estimator, encoder, _ = fit_estimator(table, labels(table), COLUMNS, algorithm, parameters, 7)
    schema = ModelSchema(use_case="x", feature_service="x_v1", feature_digest="f", columns=COLUMNS)
    golden = golden_features(table, COLUMNS)
    with TemporaryDirectory() as folder:
        return write_model(folder, estimator=estimator, encoder=encoder, schema=schema, golden=golden, card={})[0]


def test_the_same_recipe_is_the_same_model_whatever_the_process_and_its_threads() -> None:
    here = {f"{a} {p}": digest(a, p) for a, p in CHOSEN}
    assert {f"{a} {p}": digest(a, p) for a, p in CHOSEN} == here
    script = (
        "import json; from unit.training.test_determinism import CHOSEN, digest;"
        "print(json.dumps({f'{a} {p}': digest(a, p) for a, p in CHOSEN}))"
    )
    env = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "123"}

    there = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )

    assert there.returncode == 0, there.stderr[-2000:]
    assert json.loads(there.stdout.splitlines()[-1]) == here
