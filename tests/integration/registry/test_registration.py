"""Registration on a real ledger, MLflow and release store: only a passed candidate, only once."""

from __future__ import annotations

import json
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from sqlalchemy import text

from airworthy.config import UseCase, get_settings
from airworthy.errors import ReleaseError
from airworthy.ledger import promotions
from airworthy.ledger.database import LOCKS, transaction
from airworthy.records import CandidateRef, Check, Release, TrainingSetRef, Verdict
from airworthy.registry import load, load_verdict, reconcile_aliases, register, registration, release_folder, verify
from airworthy.registry.store import releases_url
from airworthy.training import build_training_set, fit, model_files, tracking
from airworthy.training.folders import MANIFEST, read_folder, write_folder
from airworthy.training.training_set import part, read_training_set

Make = Callable[..., TrainingSetRef]
RELEASE_FILES = [*model_files.MODEL_FILES, "verdict.json", "model_card.json", MANIFEST]


def passing(tiny: UseCase, candidate: CandidateRef, /, **changes: Any) -> Verdict:
    """A verdict as the gate writes it."""
    check = Check(name="roc_auc", value=0.8, bound=0.65, reason="absolute", passed=True, words="0.8 >= 0.65")
    content: dict[str, Any] = {
        "id": f"verdict-{tiny.name}-{candidate.model_digest[:8]}", "use_case": tiny.name, "champion_digest": None,
        "model_digest": candidate.model_digest, "decision": "pass", "mode": "enabled", "checks": (check,),
        "metrics": {"roc_auc": 0.8}, "champion_metrics": {}, "holdout_rows": 400, "summary": "passed: ROC AUC 0.8",
        "training_set_digest": candidate.training_set.digest, "data_time": candidate.training_set.data_time,
    }  # fmt: skip
    return Verdict(**{**content, **changes})


def released(use_case: UseCase, ref: TrainingSetRef, run: str = "train__1", **parameters: Any) -> Release:
    candidate = fit(use_case, ref, run=run, parameters=parameters or None)
    return register(use_case, candidate, passing(use_case, candidate))


def promoted(use_case: UseCase, release: Release, expected: str | None, action: str = "promote") -> None:
    promotions.promote(
        use_case.name, release.digest, expected=expected, action=action, verdict_id=release.verdict_id, who="test",
        why="test", data_time=TIME,
    )  # fmt: skip


def aliases_of(use_case: UseCase) -> dict[str, int]:
    model = tracking.client().get_registered_model(get_settings().model_name(use_case.name))
    return {alias: int(version) for alias, version in model.aliases.items()}


TIME = datetime(2024, 2, 1, tzinfo=UTC)


def test_a_passed_candidate_becomes_a_release_that_answers(tiny: UseCase, training_set: Make) -> None:
    # Given a fitted candidate with a passing verdict.
    ref = training_set()
    candidate = fit(tiny, ref, run="train__1")
    verdict = passing(tiny, candidate)

    # When it is registered.
    release = register(tiny, candidate, verdict)

    # Then the release verifies, loads and answers exactly as the candidate that was judged.
    assert verify(release.digest) == release
    assert load_verdict(release.digest) == verdict
    model = load(release.digest)
    assert (model.release, model.digest, model.version, model.model_digest) == (
        release,
        release.digest,
        1,
        candidate.model_digest,
    )
    holdout = part(read_training_set(ref), "holdout")
    judged = model_files.load(candidate.folder, candidate.model_digest)
    np.testing.assert_array_equal(model.predict_table(holdout), judged.predict_table(holdout))
    assert {p.name for p in Path(release_folder(release.digest)).iterdir()} == set(RELEASE_FILES)
    # And MLflow and the ledger know it, as a challenger; nobody was promoted.
    version = tracking.client().get_model_version(get_settings().model_name(tiny.name), "1")
    assert version.tags["airworthy.release"] == release.digest
    assert version.run_id == candidate.run_id
    assert aliases_of(tiny) == {"challenger": 1}
    assert [r.state for r in promotions.releases(tiny.name)] == ["challenger"]
    assert promotions.promotion_log(tiny.name) == []


def test_the_version_has_the_files(tiny: UseCase, training_set: Make, tmp_path: Path) -> None:
    release = released(tiny, training_set())
    mlflow = tracking.client()

    uri = mlflow.get_model_version_download_uri(get_settings().model_name(tiny.name), str(release.version))
    run = mlflow.get_run(release.run_id)
    mlflow.download_artifacts(release.run_id, "model", str(tmp_path))

    assert uri == f"{run.info.artifact_uri}/model"
    _, files = read_folder(release_folder(release.digest), release.digest)
    for name in model_files.MODEL_FILES:
        assert (tmp_path / "model" / name).read_bytes() == files[name]


def test_registering_again_gives_the_same_release(tiny: UseCase, training_set: Make) -> None:
    candidate = fit(tiny, training_set(), run="train__1")
    verdict = passing(tiny, candidate)

    first = register(tiny, candidate, verdict)
    again = register(tiny, candidate, verdict)

    assert again == first
    assert len(promotions.releases(tiny.name)) == 1
    assert len(tracking.client().search_model_versions(f"name = '{get_settings().model_name(tiny.name)}'")) == 1


def test_two_registrations_at_once_make_one_version(tiny: UseCase, training_set: Make) -> None:
    candidate = fit(tiny, training_set(), run="train__1")
    verdict = passing(tiny, candidate)

    with ThreadPoolExecutor(3) as pool:
        releases = list(pool.map(lambda _: register(tiny, candidate, verdict), range(3)))

    assert len({r.digest for r in releases}) == 1
    assert len(tracking.client().search_model_versions(f"name = '{get_settings().model_name(tiny.name)}'")) == 1


def test_a_registration_that_wakes_up_late_gives_way(
    tiny: UseCase, training_set: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a registration that has seen that its verdict has no version yet, and is stopped there until it lost its lock.
    candidate = fit(tiny, training_set(), run="train__1")
    verdict = passing(tiny, candidate)
    stopped, woken, create = threading.Event(), threading.Event(), MlflowClient.create_model_version

    def late(*arguments: Any, **options: Any) -> Any:
        if not stopped.is_set():
            stopped.set()
            assert woken.wait(60)
        return create(*arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_model_version", late)
    with ThreadPoolExecutor(1) as pool:
        zombie = pool.submit(register, tiny, candidate, verdict)
        assert stopped.wait(60)
        with transaction() as session:
            lost = session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = :work "
                    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                ),
                {"work": LOCKS["register"]},
            ).all()
        assert lost == [(True,)]

        # When another one registers it meanwhile, and the first wakes up.
        release = register(tiny, candidate, verdict)
        woken.set()

        # Then it takes that release for its own, and there is one version, one challenger and one alias.
        assert zombie.result(60) == release
    name = get_settings().model_name(tiny.name)
    assert [r.digest for r in promotions.releases(tiny.name)] == [release.digest]
    assert [int(v.version) for v in tracking.client().search_model_versions(f"name = '{name}'")] == [release.version]
    assert aliases_of(tiny) == {"challenger": release.version}


def test_a_retry_after_a_crash_ends_with_one_version(
    tiny: UseCase, training_set: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a registration that died after MLflow's version was made.
    candidate = fit(tiny, training_set(), run="train__1")
    verdict = passing(tiny, candidate)

    def died(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registration, "write_release", died)
        with pytest.raises(KeyboardInterrupt):
            register(tiny, candidate, verdict)

    # When it is tried again.
    release = register(tiny, candidate, verdict)

    # Then that version is the release's.
    assert release.version == 1
    assert len(tracking.client().search_model_versions(f"name = '{get_settings().model_name(tiny.name)}'")) == 1


def test_without_a_passing_verdict_about_it_nothing_is_released(tiny: UseCase, training_set: Make) -> None:
    candidate = fit(tiny, training_set(), run="train__1")
    failed = Check(name="x", value=None, bound=1.0, reason="", passed=False, words="missing")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"decision": "refuse"}, "decision is refuse"),
        ({"mode": "dry_run"}, "mode dry_run"),
        ({"mode": "disabled"}, "mode disabled"),
        ({"model_digest": "0" * 64}, "about model 0000"),
        ({"training_set_digest": "1" * 64}, "about training set 1111"),
        ({"use_case": "another"}, f"of {tiny.name} and another"),
        ({"checks": ()}, "not every check passed"),
        ({"checks": (failed,)}, "not every check passed"),
    ]

    for changes, words in cases:
        with pytest.raises(ReleaseError, match=words):
            register(tiny, candidate, passing(tiny, candidate, **changes))

    assert promotions.releases(tiny.name) == []
    assert not Path(releases_url()).exists()


def test_a_candidate_whose_files_were_swapped_is_refused(tiny: UseCase, training_set: Make) -> None:
    ref = training_set()
    candidate, other = fit(tiny, ref, run="train__1"), fit(tiny, ref, run="train__2", parameters={"C": 0.001})
    verdict = passing(tiny, candidate)

    with pytest.raises(ReleaseError, match="altered"):
        register(tiny, candidate.model_copy(update={"folder": other.folder}), verdict)


def test_one_altered_byte_of_any_file_of_a_release_is_refused(
    tiny: UseCase, training_set: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = released(tiny, training_set())

    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("an altered release was parsed")

    monkeypatch.setattr(model_files, "from_files", parsed)
    monkeypatch.setattr(Verdict, "model_validate_json", parsed)

    for name in RELEASE_FILES:
        file = Path(release_folder(release.digest)) / name
        original = file.read_bytes()
        file.write_bytes(original[:-2] + bytes([original[-2] ^ 1]) + original[-1:])
        for use in (verify, load, load_verdict):
            with pytest.raises(ReleaseError, match=f"{name} of {release.digest[:12]} .* was altered"):
                use(release.digest)
        file.write_bytes(original)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_planted_over_a_file_of_a_release_never_runs(
    tiny: UseCase, training_set: Make, tmp_path: Path
) -> None:
    release = released(tiny, training_set())
    folder = Path(release_folder(release.digest))
    for name in RELEASE_FILES:
        original = (folder / name).read_bytes()
        (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "it ran")))
        with pytest.raises(ReleaseError, match=f"{name} of .* was altered"):
            load(release.digest)
        (folder / name).write_bytes(original)

    assert not (tmp_path / "it ran").exists()
    assert load(release.digest).digest == release.digest


def rewritten(release: Release, facts: dict[str, Any], verdict: dict[str, Any]) -> str:
    """The digest of a release folder with other facts or verdict, and digests that fit."""
    manifest, files = read_folder(release_folder(release.digest), release.digest)
    files["verdict.json"] = json.dumps({**json.loads(files["verdict.json"]), **verdict}).encode()
    digest, _ = write_folder(releases_url(), files, {**{k: v for k, v in manifest.items() if k != "files"}, **facts})
    return digest


def test_a_release_without_a_passing_verdict_about_its_model_is_refused(tiny: UseCase, training_set: Make) -> None:
    release = released(tiny, training_set())
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({}, {"decision": "refuse"}, "no passing verdict"),
        ({}, {"mode": "dry_run"}, "no passing verdict"),
        ({}, {"use_case": "another"}, "no passing verdict"),
        ({}, {"model_digest": "0" * 64}, "another model than its verdict"),
        ({"model_digest": "0" * 64}, {"model_digest": "0" * 64}, "another model than its verdict"),
    ]

    for facts, verdict, words in cases:
        digest = rewritten(release, facts, verdict)
        for use in (verify, load):
            with pytest.raises(ReleaseError, match=words):
                use(digest)


def test_a_model_folder_is_no_release(tiny: UseCase, training_set: Make) -> None:
    candidate = fit(tiny, training_set(), run="train__1")
    Path(releases_url()).mkdir(parents=True)
    Path(candidate.folder).rename(release_folder(candidate.model_digest))

    with pytest.raises(ReleaseError, match="no release: it has no verdict"):
        load(candidate.model_digest)


def test_an_unknown_release_is_refused(tiny: UseCase) -> None:
    with pytest.raises(ReleaseError, match=r"manifest\.json of abcabcabcabc is missing"):
        verify("abc" * 21 + "a")


def test_aliases_follow_the_promotion_log(tiny: UseCase, training_set: Make) -> None:
    # Given three releases.
    ref = training_set()
    first = released(tiny, ref, "train__1")
    second = released(tiny, ref, "train__2", C=0.1)
    assert aliases_of(tiny) == {"challenger": 2}

    # When they are promoted, promoted, rolled back; then the aliases say so each time.
    promoted(tiny, first, None)
    assert reconcile_aliases(tiny) == aliases_of(tiny) == {"champion": 1, "challenger": 2}
    promoted(tiny, second, first.digest)
    assert reconcile_aliases(tiny) == aliases_of(tiny) == {"champion": 2, "previous": 1}
    promoted(tiny, first, second.digest, "rollback")
    assert reconcile_aliases(tiny) == aliases_of(tiny) == {"champion": 1, "previous": 2}
    # And a new challenger joins without touching them.
    released(tiny, ref, "train__3", C=0.2)
    assert aliases_of(tiny) == {"champion": 1, "previous": 2, "challenger": 3}


def test_aliases_that_somebody_moved_are_repaired(tiny: UseCase, training_set: Make) -> None:
    ref = training_set()
    first, second = released(tiny, ref, "train__1"), released(tiny, ref, "train__2", C=0.1)
    promoted(tiny, first, None)
    mlflow, name = tracking.client(), get_settings().model_name(tiny.name)
    mlflow.set_registered_model_alias(name, "champion", str(second.version))
    mlflow.set_registered_model_alias(name, "previous", str(second.version))
    mlflow.set_registered_model_alias(name, "mine", "1")

    reconcile_aliases(tiny)

    assert aliases_of(tiny) == {"champion": 1, "challenger": 2, "mine": 1}


def test_a_late_retry_of_a_promoted_release_makes_no_challenger(tiny: UseCase, training_set: Make) -> None:
    candidate = fit(tiny, training_set(), run="train__1")
    verdict = passing(tiny, candidate)
    release = register(tiny, candidate, verdict)
    promoted(tiny, release, None)

    assert register(tiny, candidate, verdict) == release
    assert aliases_of(tiny) == {"champion": 1}
    assert [r.state for r in promotions.releases(tiny.name)] == ["champion"]


def test_the_whole_thread_from_landed_orders_to_answers(
    shop: UseCase, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given landed, ingested orders; when a candidate is trained on them, judged and registered.
    monkeypatch.setenv("AIRWORTHY_MLFLOW_URL", mlflow_server)
    get_settings.cache_clear()
    ref = build_training_set(shop, run="train__1")
    candidate = fit(shop, ref, run="train__1")
    release = register(shop, candidate, passing(shop, candidate))

    # Then the release answers for the holdout, better than chance, from named features.
    model = load(release.digest)
    holdout = part(read_training_set(ref), "holdout")
    rows = holdout.select(list(model.columns)).to_pylist()
    probabilities = model.predict(rows)
    positive = holdout["label"].to_numpy(zero_copy_only=False)
    assert probabilities[positive].mean() > probabilities[~positive].mean()
    np.testing.assert_allclose(model.predict_table(holdout), probabilities, rtol=0, atol=1e-12)
    assert model.schema.feature_digest == ref.feature_digest
