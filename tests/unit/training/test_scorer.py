"""The compiled form answers like predict_proba, for every algorithm that may be released."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import treelite.sklearn
from treelite import gtil

from airworthy.errors import ReleaseError
from airworthy.training.algorithm import find_algorithm, make_estimator, style_of
from airworthy.training.compiling import PARITY, RecordedScorer, check_parity, compile_scorer, scorer_of
from airworthy.training.scorer import NoCompiledFormError, scorer_from_files
from airworthy.training.trees import BLOCK, BoostedTrees

from .models import ALGORITHMS, CALIBRATED, COLUMNS, VOTE, fitted, rows


@pytest.mark.parametrize(("algorithm", "parameters"), ALGORITHMS)
def test_the_compiled_form_answers_like_predict_proba(algorithm: str, parameters: dict[str, Any]) -> None:
    # Given a model fitted on rows with gaps, and other rows with more gaps and categories that it never saw.
    estimator, encoder = fitted(algorithm, parameters)
    others = encoder.transform(rows(4000, seed=99, strange=True))

    # When it is compiled, written and read again.
    scorer = scorer_from_files(*compile_scorer(estimator).to_files())

    # Then the answers are the same, in bulk and one by one.
    assert scorer is not None
    expected = estimator.predict_proba(others)[:, 1]
    np.testing.assert_allclose(scorer.predict(others), expected, rtol=0, atol=PARITY)
    alone = np.array([scorer.predict(row[None, :])[0] for row in others[:200]])
    np.testing.assert_allclose(alone, expected[:200], rtol=0, atol=PARITY)


TREES = {"algorithm": "sklearn.ensemble.HistGradientBoostingClassifier", "parameters": {"max_iter": 5}}
BOOSTED = [
    ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 60}),
    ("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 20}),
]


@pytest.mark.parametrize(("algorithm", "parameters"), BOOSTED)
def test_boosted_trees_sum_to_what_treelite_says_bit_for_bit(algorithm: str, parameters: dict[str, Any]) -> None:
    estimator, encoder = fitted(algorithm, parameters)
    model = treelite.sklearn.import_model(estimator)
    trees = BoostedTrees.of(model)
    assert trees is not None
    matrix = encoder.transform(rows(3000, seed=99, strange=True))
    edges = [0.0, -0.0, -1.0, 0.5, 63.0, 64.0, 65.5, 1e9, 1e300, np.inf, -np.inf, np.nan]
    matrix[: len(edges)] = np.array(edges)[:, None]
    if encoder.style != "codes":
        matrix = matrix.astype(np.float32).astype(np.float64)
    for margin in (True, False):
        said = gtil.predict(model, matrix, nthread=1, pred_margin=margin).reshape(len(matrix))
        np.testing.assert_array_equal(trees.run(matrix, margin=margin), said)
        alone = np.concatenate([trees.run(matrix[n : n + 1], margin=margin) for n in range(200)])
        np.testing.assert_array_equal(alone, said[:200])  # whatever else is in the batch


@pytest.mark.parametrize(
    ("algorithm", "parameters"),
    [*BOOSTED, ("sklearn.ensemble.VotingClassifier", VOTE), (CALIBRATED, {"estimator": TREES, "cv": 2})],
)
def test_what_is_ready_for_requests_answers_the_same_bits(algorithm: str, parameters: dict[str, Any]) -> None:
    estimator, encoder = fitted(algorithm, parameters)
    matrix = encoder.transform(rows(200, seed=99, strange=True))
    plain, ready = compile_scorer(estimator), compile_scorer(estimator)
    with pytest.MonkeyPatch.context() as patch:
        used: list[int] = []
        walked = BoostedTrees.run
        patch.setattr(BoostedTrees, "run", lambda *a, **k: used.append(len(a[1])) or walked(*a, **k))
        ready.for_requests()
        for count in (1, BLOCK, BLOCK + 1, 200):
            np.testing.assert_array_equal(ready.predict(matrix[:count]), plain.predict(matrix[:count]))
    assert {1, BLOCK} == set(used)  # the larger ones by treelite, which lets other threads run


def test_a_forest_has_no_such_sum_and_keeps_treelites_interpreter() -> None:
    estimator, _ = fitted("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 5})
    assert BoostedTrees.of(treelite.sklearn.import_model(estimator)) is None


def test_a_matrix_of_other_columns_is_refused_and_one_that_cannot_be_written_is_read() -> None:
    estimator, encoder = fitted(*BOOSTED[0])
    scorer, matrix = compile_scorer(estimator), encoder.transform(rows(20, seed=1))
    for ask in (scorer.predict, scorer.margin):
        expected = ask(matrix)
        for wrong in (matrix[:, 1:], matrix[0], matrix[:0, 1:]):
            with pytest.raises(ReleaseError, match=f"reads {encoder.width} columns"):
                ask(wrong)
        matrix.flags.writeable = False
        np.testing.assert_array_equal(ask(matrix), expected)
        matrix.flags.writeable = True


def test_trees_that_read_more_columns_than_there_are_are_refused() -> None:
    estimator, encoder = fitted(*BOOSTED[0])
    about, content = compile_scorer(estimator).to_files()
    narrow = json.dumps({**json.loads(about), "width": encoder.width - 1}).encode()
    with pytest.raises(ReleaseError, match=f"the trees read {encoder.width} columns"):
        scorer_from_files(narrow, content)


def test_single_precision_is_honoured() -> None:
    # Given a forest whose threshold lies off the grid of single precision, and inputs that rounding carries over it.
    low, high = 1 + 2.0**-23, 2.0**20 + 0.125
    algorithm = find_algorithm("sklearn.ensemble.RandomForestClassifier")
    forest = make_estimator(algorithm, {"n_estimators": 5, "bootstrap": False}, 1, [False])
    forest.fit(np.array([[low], [high]] * 20), [False, True] * 20)
    threshold = forest.estimators_[0].tree_.threshold[0]
    near = threshold + np.linspace(-0.05, 0.05, 101)[:, None]
    expected = forest.predict_proba(near)[:, 1]
    assert (expected != (near[:, 0] > threshold)).any()

    scorer = compile_scorer(forest)

    np.testing.assert_array_equal(scorer.predict(near), expected)


def test_many_threads_get_the_same_answers() -> None:
    estimator, encoder = fitted("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 30})
    matrix = encoder.transform(rows(400, seed=5, strange=True))
    scorer = compile_scorer(estimator)
    expected = estimator.predict_proba(matrix)[:, 1]

    def answer(i: int) -> float:
        return float(scorer.predict(matrix[i : i + 1])[0])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(answer, list(range(400)) * 10))

    np.testing.assert_allclose(answers, np.tile(expected, 10), rtol=0, atol=PARITY)


UNCOMPILED: list[tuple[str, dict[str, Any], str]] = [
    ("sklearn.neural_network.MLPClassifier", {"max_iter": 5}, "MLPClassifier"),
    ("sklearn.naive_bayes.GaussianNB", {}, "GaussianNB"),
    ("sklearn.ensemble.BaggingClassifier", {"n_estimators": 2}, "BaggingClassifier"),
    (CALIBRATED, {"estimator": TREES, "method": "temperature", "cv": 2}, "calibration by 'temperature'"),
    (CALIBRATED, {"estimator": {"algorithm": "sklearn.naive_bayes.GaussianNB"}, "cv": 2}, "GaussianNB"),
    (
        "sklearn.ensemble.VotingClassifier",
        {"members": {**VOTE["members"], "b": {"algorithm": "sklearn.tree.DecisionTreeClassifier"}}},
        "DecisionTreeClassifier",
    ),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("algorithm", "parameters", "named"), UNCOMPILED)
def test_what_has_no_compiled_form_says_so_and_its_record_stands_in(
    algorithm: str, parameters: dict[str, Any], named: str
) -> None:
    # Given a fitted classifier that cannot be compiled.
    estimator, encoder = fitted(algorithm, parameters)
    with pytest.raises(
        NoCompiledFormError, match=rf"{named}.* has no compiled form.*\n?Next: train one of scikit-learn's "
    ):
        compile_scorer(estimator)

    # When it is taken all the same: its own answers are measured.
    scorer = scorer_of(estimator, encoder.width)
    matrix = encoder.transform(rows(50, seed=3))
    assert isinstance(scorer, RecordedScorer)
    np.testing.assert_array_equal(scorer.predict(matrix), estimator.predict_proba(matrix)[:, 1])

    # Then its files say why nothing can serve.
    about, content = scorer.to_files()
    assert content == b""
    with pytest.raises(NoCompiledFormError, match=named):
        scorer_from_files(about, content)


def test_a_class_of_the_same_name_elsewhere_has_no_compiled_form() -> None:
    from sklearn.linear_model import LogisticRegression as Real

    class LogisticRegression(Real):
        pass

    with pytest.raises(NoCompiledFormError, match="has no compiled form"):
        compile_scorer(LogisticRegression().fit([[0.0], [1.0]], [0, 1]))


@pytest.mark.parametrize(("name", "value"), [("numbers", 3), ("bytes", 3), ("curve", "sigmoid"), ("curve", "other")])
def test_a_calibrated_models_files_that_do_not_fit_together_are_refused(name: str, value: object) -> None:
    estimator, _ = fitted(CALIBRATED, {"estimator": TREES, "method": "isotonic", "cv": 2})
    about, content = compile_scorer(estimator).to_files()
    facts = json.loads(about)
    facts["members"][0][name] = value

    with pytest.raises(ReleaseError, match=r"scorer\.json or scorer\.bin cannot be read"):
        scorer_from_files(json.dumps(facts).encode(), content)


def test_three_classes_are_refused() -> None:
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(ReleaseError, match="two classes"):
        compile_scorer(LogisticRegression().fit([[0.0], [1.0], [2.0]], [0, 1, 2]))


def test_a_matrix_of_another_width_is_refused_and_not_padded() -> None:
    estimator, encoder = fitted("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 3})
    scorer = compile_scorer(estimator)
    matrix = encoder.transform(rows(3, seed=1))

    assert scorer.predict(matrix[:0]).shape == (0,)
    with pytest.raises(ReleaseError, match=rf"reads {len(COLUMNS)} columns"):
        scorer.predict(matrix[:, :-1])
    with pytest.raises(ReleaseError, match="shape"):
        scorer.predict(matrix[0])


def test_parity_catches_a_difference_and_nan() -> None:
    estimator, encoder = fitted("sklearn.linear_model.LogisticRegression", {})
    matrix = encoder.transform(rows(50, seed=3))
    scorer = compile_scorer(estimator)

    class Other:
        def __init__(self, by: float) -> None:
            self.by = by

        def predict_proba(self, given: np.ndarray) -> np.ndarray:
            return estimator.predict_proba(given) + self.by

    check_parity(scorer, Other(0.0), matrix)
    for by in (1e-6, np.nan):
        with pytest.raises(ReleaseError, match="differs from predict_proba on 50 of 50 rows"):
            check_parity(scorer, Other(by), matrix)


@pytest.mark.parametrize(
    ("about", "content"),
    [
        (b"not json", b""),
        (b"[]", b""),
        (b'{"form": "pickle", "width": 1}', b""),
        (b'{"form": "linear", "width": 3}', b"\0" * 8),
        (b'{"form": "treelite", "width": 3}', b""),
    ],
)
def test_files_that_are_no_scorer_are_refused(about: bytes, content: bytes) -> None:
    with pytest.raises(ReleaseError, match=r"scorer\.json or scorer\.bin"):
        scorer_from_files(about, content)


def test_how_each_algorithm_is_encoded() -> None:
    assert style_of(find_algorithm("sklearn.ensemble.HistGradientBoostingClassifier")) == "codes"
    assert style_of(find_algorithm("sklearn.ensemble.GradientBoostingClassifier")) == "dense"
    assert style_of(find_algorithm("sklearn.linear_model.LogisticRegression")) == "dense"


@pytest.mark.parametrize(
    ("path", "value"),
    [(("columns",), [0, 5]), (("columns",), [-6, 0]), (("weight",), 0), (("weight",), -1), (("bytes",), 3)],
)
def test_an_ensembles_files_that_do_not_fit_together_are_refused(path: tuple[str], value: object) -> None:
    estimator, _ = fitted(*ALGORITHMS[-1])
    about, content = compile_scorer(estimator).to_files()
    facts = json.loads(about)
    facts["members"][0][path[0]] = value

    with pytest.raises(ReleaseError, match=r"scorer\.json or scorer\.bin cannot be read"):
        scorer_from_files(json.dumps(facts).encode(), content)
    with pytest.raises(ReleaseError, match="are not those of 0 members"):
        scorer_from_files(json.dumps({**facts, "members": []}).encode(), content)
