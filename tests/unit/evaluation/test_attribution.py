"""What a version's features are worth: SHAP values that sum, else permutation importance, which says why."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from airworthy.evaluation import attribution
from airworthy.evaluation.attribution import shap_values, worth
from airworthy.evaluation.attribution_plot import shap_plot
from airworthy.evaluation.records import ImportanceEvidence
from airworthy.evaluation.subject import Holdout, Subject
from gate_world import COLUMNS, Maker


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Maker(tmp_path_factory.mktemp("models")).candidate()


def test_a_version_is_explained_by_shap_values_with_a_plot(subject: Subject) -> None:
    found, _ = shap_values(subject)
    assert found is not None
    # Given rows of the holdout, each of which sums to what the model says of it.
    rows = subject.holdout.sample(attribution.ROWS, subject.seed).rows
    assert found.base + found.effects.sum(axis=1) == pytest.approx(subject.model.predict_table(rows), abs=1e-9)
    # Then the record has their mean size, most first: what the label hangs on before what it does not.
    said = worth(found, [], "")
    assert said.measure == "shap"
    assert [name for name, _ in said.features][-1] == "hour"
    assert dict(said.features)["delay"] == pytest.approx(np.abs(found.effects[:, 3]).mean())
    assert shap_values(subject)[0].effects.tolist() == found.effects.tolist()  # type: ignore[union-attr]
    # And the plot has a dot for each row and feature, grey where the amount is unknown.
    plot = shap_plot(found)
    assert plot.count("<circle") == attribution.ROWS * len(COLUMNS)
    assert plot.count('fill="#b9b9b9"') == np.isnan(found.numbers).sum() > 0


def test_without_shap_values_permutation_importance_stands_and_says_why(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = [ImportanceEvidence(column="delay", mean=0.1, low=0.05, high=0.15)]
    infinite = subject.holdout.rows.set_column(4, "amount", pa.array([np.inf] * subject.holdout.labels.size))
    lacking = subject.holdout.rows.drop_columns(["delay"])
    for rows, why in ((infinite, "infinite"), (lacking, "the holdout has no delay")):
        changed = Subject(subject.model, None, "", subject.train, Holdout.of(rows), 7)
        found, note = shap_values(changed)
        assert found is None
        said = worth(found, losses, note)
        assert (said.measure, said.features) == ("permutation", (("delay", 0.1),))
        assert why in said.note
    # Nor for a model whose features are too many to be scored in all those orders.
    monkeypatch.setattr(attribution, "MOST_SCORED", 1000)
    assert shap_values(subject) == (None, "4 features take too many scores")
