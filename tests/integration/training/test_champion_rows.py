"""A feature service drops a view that the champion reads: it is compared on its own features, or the way out is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tiny_orders import features as definitions

from airworthy import features
from airworthy.config import UseCase, get_settings
from airworthy.evaluation import champion_rows
from airworthy.evaluation.champion import ChampionRecord
from airworthy.evaluation.champion_rows import opponent_of
from airworthy.evaluation.evidence import score
from airworthy.evaluation.subject import Holdout, labels_of
from airworthy.features import catalog
from airworthy.records import Release, TrainingSetRef
from airworthy.training import build_training_set, model_files, read_training_set
from airworthy.training.building import fit_estimator
from airworthy.training.training_set import part


@pytest.fixture(autouse=True)
def compiled_anew() -> Iterator[None]:
    yield
    catalog.forget()


def champion_of(case: UseCase, ref: TrainingSetRef) -> tuple[ChampionRecord, model_files.LoadedModel]:
    train = part(read_training_set(ref), "train")
    estimator, encoder, _ = fit_estimator(
        train, labels_of(train), ref.columns, case.training.algorithm, case.training.parameters, 7
    )
    schema = model_files.ModelSchema(
        use_case=case.name, feature_service=ref.feature_service, feature_digest=ref.feature_digest,
        view_digests=ref.view_digests, columns=ref.columns,
    )  # fmt: skip
    digest, folder = model_files.write_model(
        f"{get_settings().release_url}/models", estimator=estimator, encoder=encoder, schema=schema,
        golden=model_files.golden_features(train, ref.columns), card={},
    )  # fmt: skip
    release = Release(
        use_case=case.name,
        digest="c" * 64,
        model_digest=digest,
        version=1,
        verdict_id="v",
        champion_digest=None,
        run_id="r",
    )
    return ChampionRecord(release, None, ref), model_files.load(folder, digest)


def redefined(case: UseCase, monkeypatch: pytest.MonkeyPatch, service: str, views: list[object]) -> UseCase:
    monkeypatch.setattr(definitions, "VIEWS", views)
    catalog.forget()
    case = case.model_copy(update={"training": case.training.model_copy(update={"feature_service": service})})
    features.apply(case)
    return case


def test_a_champion_whose_view_is_gone_is_scored_on_it(shop: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a champion that reads the customer's view, and a service that has dropped it.
    first = build_training_set(shop, run="train__1")
    champion, model = champion_of(shop, first)
    dropped = redefined(shop, monkeypatch, "tiny_orders_v2", [])
    second = build_training_set(dropped, run="train__2")
    assert "returned_share_7d" in first.columns
    assert "returned_share_7d" not in second.columns
    holdout = Holdout.of(part(read_training_set(second), "holdout"))

    # Then it meets the new holdout with exactly what its own service would have joined.
    found = opponent_of(dropped, champion, model, second, holdout)
    assert found.note == ""
    assert "scored on its own" in found.words
    before = part(read_training_set(first), "holdout")
    assert found.rows["order_id"].to_pylist() == before["order_id"].to_pylist()
    for name in first.columns:
        assert found.rows[name].to_pylist() == before[name].to_pylist()
    scored = score(dropped, model, holdout, trained_until=found.trained_until, rows=found.rows)
    assert scored.evidence.finite
    assert scored.evidence.scored == holdout.labels.size

    # A view that no longer covers the rows would make it blind: it is not compared, and the words name the way out.
    monkeypatch.setattr(champion_rows, "MIN_COVERAGE", 1.5)
    blind = opponent_of(dropped, champion, model, second, holdout)
    assert "has a value for" in blind.note
    assert "gate.replace_champion" in blind.note


def test_a_view_that_changed_under_its_name_is_no_comparison(shop: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    first = build_training_set(shop, run="train__1")
    champion, model = champion_of(shop, first)
    views = [replace(definitions.VIEWS[0], ttl=timedelta(days=3))]
    changed = redefined(shop, monkeypatch, "tiny_orders_v2", views)
    second = build_training_set(changed, run="train__2")
    found = opponent_of(changed, champion, model, second, Holdout.of(part(read_training_set(second), "holdout")))
    assert "tiny_orders_customer changed" in found.note
    assert "gate.replace_champion" in found.note
    assert found.rows is None
    scored = score(
        changed, model, Holdout.of(part(read_training_set(second), "holdout")), trained_until=None, note=found.note
    )
    assert scored.scores is None
