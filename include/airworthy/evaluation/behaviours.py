"""Behaviour tests: one input changes, all others stay, and the score must stay or move the right way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config.gate_spec import Behaviour, Gate
from airworthy.errors import AirworthyError
from airworthy.evaluation.records import BehaviourEvidence
from airworthy.evaluation.subject import Subject


def behaviours(subject: Subject, gate: Gate) -> tuple[BehaviourEvidence, ...]:
    """Try every behaviour that the spec names, on holdout rows, with the form that will serve.

    After the invariance and directional expectation tests of Ribeiro et al., "Beyond Accuracy" (2020).
    """
    if not gate.behaviours:
        return ()
    if subject.absent:
        return tuple(_untried(b, f"the holdout has no {', '.join(subject.absent)}") for b in gate.behaviours)
    rows = subject.holdout.sample(gate.behaviour_rows, subject.seed).rows
    return tuple(_tried(subject, rows, spec) for spec in gate.behaviours)


def _tried(subject: Subject, rows: pa.Table, spec: Behaviour) -> BehaviourEvidence:
    if spec.column not in subject.model.columns:
        if spec.kind == "invariance":
            return BehaviourEvidence(
                name=spec.name, rows=rows.num_rows, violations=0.0, effect=0.0, note=f"{spec.column} is no input"
            )
        return _untried(spec, f"{spec.column} is no input of the model, so it cannot heed it")
    try:
        return _measured(subject, rows, spec)
    except (AirworthyError, pa.ArrowInvalid, ValueError) as error:
        return _untried(spec, f"it could not be tried: {str(error)[:300]}")


def _measured(subject: Subject, rows: pa.Table, spec: Behaviour) -> BehaviourEvidence:
    if spec.kind != "invariance":
        # Where nothing is known nothing can be added.
        rows = rows.filter(pc.is_valid(rows[spec.column]))
    if not rows.num_rows:
        return _untried(spec, f"no row has a value of {spec.column}")
    before = subject.model.predict_table(rows)
    changes = np.stack([subject.model.predict_table(t) - before for t in _changed(rows, spec, subject.seed)])
    broken = {
        "invariance": np.abs(changes) > spec.tolerance,
        "increasing": changes < -spec.tolerance,
        "decreasing": changes > spec.tolerance,
    }[spec.kind]
    return BehaviourEvidence(
        name=spec.name, rows=rows.num_rows, violations=float(broken.any(axis=0).mean()), effect=float(changes.mean())
    )


def _changed(rows: pa.Table, spec: Behaviour, seed: int) -> Iterator[pa.Table]:
    at, column = rows.schema.get_field_index(spec.column), rows[spec.column]
    if spec.by is not None:
        yield rows.set_column(at, spec.column, pc.add(column.cast(pa.float64()), spec.by))
    elif spec.values:
        for value in spec.values:
            yield rows.set_column(at, spec.column, pa.array([value] * rows.num_rows).cast(column.type))
    else:
        order = np.random.default_rng(seed).permutation(rows.num_rows)
        yield rows.set_column(at, spec.column, column.take(pa.array(order)))


def _untried(spec: Behaviour, note: str) -> BehaviourEvidence:
    return BehaviourEvidence(name=spec.name, rows=0, violations=None, effect=None, note=note)
