"""Everything that may be wrong with a real candidate is refused, each time for its own reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from airworthy.evaluation import compatibility, examine
from airworthy.evaluation.examine import Opponent
from airworthy.evaluation.gate import notes
from airworthy.evaluation.subject import picked
from airworthy.training.building import flipped
from gate_mutations import MUTATIONS
from gate_world import START, Maker, World


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def good(make: Maker) -> World:
    return make.world()


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], object]:
    return {}


@pytest.fixture(autouse=True)
def one_process_for_each_model(found: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean process is real, and started once for each model and holdout: it finds the same each time."""

    def remembered(subject):
        key = (subject.folder, subject.model.model_digest, str(subject.holdout.rows.num_rows))
        if key not in found or subject.holdout.rows.num_rows == 0:
            found[key] = compatibility.serving(subject)
        return found[key]

    monkeypatch.setattr(examine, "serving", remembered)


def test_the_candidate_that_is_mutated_passes(good: World) -> None:
    decision, checks, evidence = good.judged()
    assert decision == "pass", [c.words for c in checks.values() if not c.passed]
    assert evidence.serving.form == "TreeScorer"
    assert {i.column for i in evidence.importance} == {"channel", "amount", "hour", "delay"}
    assert [i.column for i in evidence.importance if i.adds_nothing] == ["hour"]
    assert any("hour" in note for note in notes(good.use_case.gate, evidence))


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_refused_for_its_own_reason(name: str, good: World, make: Maker) -> None:
    mutated = MUTATIONS[name]
    decision, checks, _ = mutated.change(good, make).judged()
    failed = {c.name for c in checks.values() if not c.passed}
    assert decision == "refuse"
    assert mutated.checks <= failed, sorted(mutated.checks - failed)
    if mutated.alone:
        assert failed == mutated.checks, [checks[n].words for n in failed - mutated.checks]


def test_there_are_enough_of_them() -> None:
    assert len(MUTATIONS) >= 25


@pytest.mark.parametrize(
    ("share", "decision"), [(0.0, "pass"), (0.05, "pass"), (0.1, "refuse"), (0.2, "refuse"), (0.3, "refuse")]
)
def test_flipped_labels_against_an_honest_champion_are_refused_from_a_tenth_on(
    share: float, decision: str, good: World, make: Maker
) -> None:
    """The champion has right labels and a third of the rows; one label in twenty costs the candidate less than that."""
    older = make.candidate(train=make.train.slice(0, 1000))
    world = replace(good, opponent=Opponent(older.model, "c" * 64, START))
    found, checks, evidence = world.with_candidate(make.candidate(flip=share)).judged()

    assert found == decision, [c.words for c in checks.values() if not c.passed]
    ours, theirs = evidence.candidate.metrics["roc_auc"], evidence.champion.metrics["roc_auc"]
    if decision == "pass":
        assert ours > theirs + 0.005  # what passes is better than what serves, flips and all
    else:
        assert not checks["gain over champion"].passed
    if share >= 0.2:
        assert not checks["calibration"].passed


def test_a_sample_of_rows_is_not_the_rows_whose_labels_were_flipped() -> None:
    # Both are drawn by the use case's seed; from one stream they would be the same rows.
    flips = flipped(np.zeros(10_000, dtype=bool), 0.1, 7)
    assert flips[picked(10_000, 1000, 7)].mean() == pytest.approx(0.1, abs=0.03)
