"""Serving compatibility: the candidate in a process of its own that knows nothing but the folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np

from airworthy.errors import AirworthyError
from airworthy.evaluation.records import ServingEvidence
from airworthy.evaluation.subject import Subject

ROWS = 200
TIMEOUT_S = 180


def serving(subject: Subject) -> ServingEvidence:
    """Load the candidate in a clean process and hold its answers against those of the recorded estimator.

    The process is isolated (``python -I``: no user packages, no ``PYTHONPATH``, no script folder) and gets a folder, a
    digest, rows and expected answers. Whatever goes wrong there becomes evidence, not an error here.
    """
    if subject.absent or not subject.holdout.labels.size:
        return ServingEvidence(note=f"the holdout has no {', '.join(subject.absent) or 'rows'} to try it with")
    sample = subject.holdout.sample(ROWS, subject.seed).rows.select(list(subject.model.columns))
    try:
        expected = subject.estimator.predict_proba(subject.model.encoder.transform(sample))[:, 1]
    except (AirworthyError, ValueError) as error:
        return ServingEvidence(note=f"the recorded estimator gives no answers: {str(error)[:300]}")
    return in_clean_process(subject.folder, subject.model.model_digest, sample.to_pylist(), expected)


def in_clean_process(folder: str, digest: str, rows: list[dict[str, object]], expected: np.ndarray) -> ServingEvidence:
    """What ``airworthy.training.probe`` finds, run in a clean process."""
    plain = [{n: None if isinstance(v, float) and np.isnan(v) else v for n, v in row.items()} for row in rows]
    order = {"folder": folder, "digest": digest, "rows": plain, "expected": [float(p) for p in expected]}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-m", "airworthy.training.probe"],
            input=json.dumps(order), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return ServingEvidence(note=f"the clean process did not end: {str(error)[:300]}")
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return ServingEvidence(note=f"the clean process ended with code {done.returncode}: {last[:300]}")
    return ServingEvidence.model_validate_json(lines[-1])
