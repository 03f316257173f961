"""The model card: all of its sections, from what is on record; in the release, as a page, and linked."""

from __future__ import annotations

import json
from pathlib import Path

from airworthy.config import UseCase, get_settings
from airworthy.ledger import promotions
from airworthy.records import Check, GroupShare, Worth
from airworthy.registry import card_link, card_page, load_card, register, release_folder, short_card, verify
from airworthy.training import fit, tracking

from .test_registration import Make, passing


def test_a_release_has_its_card_and_the_card_a_page(tiny: UseCase, training_set: Make) -> None:
    # Given a judged candidate with a slice, a champion's figures, and a cause on record.
    ref = training_set()
    candidate = fit(tiny, ref, run="train__1", parameters={"C": 0.5})
    part = Check(name="slice order_channel=web", value=0.7, bound=0.55, reason="r", passed=True, words="<web> 0.700")
    gap = Check(
        name="fairness hits by region", value=0.1, bound=0.25, reason="r", passed=True, words="north 50%, south 40%"
    )
    verdict = passing(tiny, candidate)
    shuffled = Worth(measure="permutation", features=(("order_amount", 0.0712), ("<web>", 0.0)), note="<x> is missing")
    verdict = verdict.model_copy(
        update={
            "checks": (*verdict.checks, part, gap), "champion_metrics": {"roc_auc": 0.7}, "worth": shuffled,
            "intervals": {"roc_auc": (0.7712, 0.8288)}, "confidence": 0.9, "calibration": ((0.125, 0.1875, 160),),
            "groups": (GroupShare(column="region", value="<north>", rows=410, selection=0.25, hits=0.5, false_alarms=None),),
        }
    )  # fmt: skip
    promotions.record_verdict(verdict, {"7": {"cause": "drift", "evidence": {"share": 0.6}}})

    # When it is registered.
    release = register(tiny, candidate, verdict)

    # Then the card says what it is for, what it learned from, how good it is where, and where it comes from.
    card = load_card(release.digest)
    assert (card["model"], card["version"], card["owner"]) == (f"dev.{tiny.name}", 1, tiny.owner)
    assert card["intended_use"]["users"] == tiny.problem.users
    assert card["intended_use"]["label"] == tiny.problem.label
    assert card["costs"]["threshold"] == round(tiny.problem.threshold, 6)
    assert card["data"]["trained_on"] == ["2024-01-01T00:00:00+00:00", "2024-01-21T00:00:00+00:00"]
    assert card["data"]["data_versions"] == {tiny.table("clean", "orders"): 3}
    assert 0.7 < card["metrics"]["train"]["train_roc_auc"] <= 1
    assert (card["metrics"]["holdout"], card["metrics"]["champion_on_holdout"]) == ({"roc_auc": 0.8}, {"roc_auc": 0.7})
    assert [s["name"] for s in card["slices"]] == ["slice order_channel=web"]
    assert [c["name"] for c in card["checks"]] == ["roc_auc"]
    # With intervals, calibration, and how groups are treated.
    assert card["intervals"] == {"confidence": 0.9, "holdout": {"roc_auc": [0.7712, 0.8288]}}
    assert card["calibration"] == [{"probability": 0.125, "rate": 0.1875, "rows": 160}]
    assert [(g["value"], g["hits"], g["false_alarms"]) for g in card["fairness"]["groups"]] == [("<north>", 0.5, None)]
    assert [c["name"] for c in card["fairness"]["checks"]] == ["fairness hits by region"]
    assert "no calibration is applied" in card["model_steps"][3]
    assert card["cause"] == {"7": {"cause": "drift", "evidence": {"share": 0.6}}}
    assert "C=0.5" in card["model_steps"][2]
    assert (card["lineage"]["mlflow_run"], card["lineage"]["code_revision"]) == (candidate.run_id, tracking.revision())
    assert any(line.startswith("numpy==") for line in card["lineage"]["requirements"])
    assert len(card["limits"]) >= 4
    assert card["worth"] == shuffled.to_json()
    # Whoever is asked to approve it reads the short form: use, data, quality beside the champion's, limits, cause.
    asked = "\n".join(short_card(card))
    for words in (
        tiny.problem.users,
        "2024-01-01 to 2024-01-21",
        "roc_auc 0.8 (0.7)",
        card["limits"][0],
        "because: drift",
    ):
        assert words in asked
    # And it is a page that people reach from MLflow, with nothing of the data as markup.
    page = (Path(get_settings().docs_url) / "cards" / tiny.name / "1.html").read_text()
    assert "&lt;web&gt; 0.700" in page
    assert "<th>90% interval</th>" in page
    assert "<td>0.7712 to 0.8288</td>" in page
    assert "<td>region=&lt;north&gt;</td><td>410</td><td>0.25</td><td>0.5</td><td></td>" in page
    assert "north 50%, south 40%" in page
    assert '<circle cx="40.0" cy="260.0"' in page  # 0.125 and 0.1875 of 320 points, from the bottom
    for words in ("Intended use", "Limits", "drift", candidate.model_digest, tiny.title):
        assert words in page
    # What the features are worth is on it: SHAP values, and where there are none, why, and what there is instead.
    assert "Loss of ROC AUC when the feature is shuffled. No SHAP values: &lt;x&gt; is missing." in page
    assert "0.0712" in page
    explained = Worth(measure="shap", features=(("order_amount", 0.0345),), rows=100, base=0.25)
    other = card_page.page({**card, "worth": explained.to_json()})
    assert "Mean size of the SHAP value over 100 rows of the holdout" in other
    assert "<th>order_amount</th>" in other
    assert "0.0345" in other
    kept = json.loads((Path(get_settings().docs_url) / "cards" / tiny.name / "1.json").read_text())
    assert kept == card
    version = tracking.client().get_model_version(get_settings().model_name(tiny.name), "1")
    assert version.tags["airworthy.model_card"] == card_link(tiny.name, 1)
    # And registering again gives the same card, so the same release.
    assert register(tiny, candidate, verdict) == release


def test_a_release_from_before_there_were_cards_still_serves(tiny: UseCase, training_set: Make) -> None:
    from airworthy.registry.store import releases_url
    from airworthy.training.folders import read_folder, write_folder

    candidate = fit(tiny, training_set(), run="train__1")
    release = register(tiny, candidate, passing(tiny, candidate))
    manifest, files = read_folder(release_folder(release.digest), release.digest)
    del files["model_card.json"]
    old, _ = write_folder(releases_url(), files, {k: v for k, v in manifest.items() if k != "files"})
    assert verify(old).model_digest == release.model_digest
    assert load_card(old) == {}
    assert short_card(load_card(old)) == []
