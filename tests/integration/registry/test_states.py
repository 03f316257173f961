"""The table of states, aliases and log rows: the document, the code and what happens say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from airworthy.config import UseCase, get_settings
from airworthy.config.settings import PROJECT_ROOT
from airworthy.errors import ServiceUnavailableError
from airworthy.ledger import promotions
from airworthy.registry import reconcile_aliases, states

from .test_registration import Make, aliases_of, promoted, released, tracking

PAGE = PROJECT_ROOT / "docs" / "reference" / "releases.md"


def test_the_reference_shows_the_table_of_the_code() -> None:
    assert states.table() in PAGE.read_text()


def test_every_state_that_the_code_sets_is_in_the_table() -> None:
    import re

    found = set()
    for file in (PROJECT_ROOT / "include" / "airworthy").rglob("*.py"):
        text = file.read_text()
        found |= set(re.findall(r"set_release_state\([^,]+,\s*\"(\w+)\"", text))
        found |= set(re.findall(r"\.values\(state=\"(\w+)\"", text))
        found |= set(re.findall(r"\brelease(?:: str)?\s*=\s*\"(\w+)\"", text))  # the end of a delivery
    assert found <= set(states.NAMES)
    assert {"champion", "refused", "retired"} <= found


def test_a_release_goes_through_the_states_as_the_table_says(tiny: UseCase, training_set: Make) -> None:
    ref = training_set()
    first, second, third = (
        released(tiny, ref, f"train__{n}", **({"C": c} if c else {})) for n, c in ((1, 0), (2, 0.1), (3, 0.2))
    )

    def now() -> tuple[dict[str, str], dict[str, int]]:
        reconcile_aliases(tiny)
        return {r.digest: r.state for r in promotions.releases(tiny.name)}, aliases_of(tiny)

    # challenger: the newest has the alias, no row.
    assert now() == ({r.digest: "challenger" for r in (first, second, third)}, {"challenger": 3})
    assert promotions.promotion_log(tiny.name) == []
    # retired without a row: superseded.
    promotions.set_release_state(first.digest, "retired", "superseded")
    assert now()[1] == {"challenger": 3}
    # champion: the newest row leads to it.
    promoted(tiny, second, None)
    assert now() == (
        {first.digest: "retired", second.digest: "champion", third.digest: "challenger"},
        {"champion": 2, "challenger": 3},
    )
    assert promotions.promotion_log(tiny.name)[-1].to_digest == second.digest
    # retired after it served: `previous`, as the newest row leads away from it.
    promoted(tiny, third, second.digest)
    assert now()[1] == {"champion": 3, "previous": 2}
    assert promotions.promotion_log(tiny.name)[-1].from_digest == second.digest
    # refused: a row led to it, a rollback away; no alias, though the newest row leads away from it.
    promoted(tiny, second, third.digest, "rollback")
    promotions.set_release_state(third.digest, "refused", "workers did not load it")
    assert now() == (
        {first.digest: "retired", second.digest: "champion", third.digest: "refused"}, {"champion": 2},
    )  # fmt: skip


def test_aliases_vandalised_while_mlflow_came_and_went_are_repaired(
    tiny: UseCase, training_set: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = training_set()
    first, second, third = (released(tiny, ref, f"train__{n}", C=0.1 * n) for n in (1, 2, 3))
    promoted(tiny, first, None)
    # MLflow is away while the log goes on: the switch counts, the aliases wait.
    url = get_settings().mlflow_url
    monkeypatch.setenv("AIRWORTHY_MLFLOW_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AIRWORTHY_MLFLOW_TIMEOUT", "1")
    get_settings.cache_clear()
    promoted(tiny, second, first.digest)
    with pytest.raises(ServiceUnavailableError):
        reconcile_aliases(tiny)
    monkeypatch.setenv("AIRWORTHY_MLFLOW_URL", url)
    get_settings.cache_clear()
    # It is back, and somebody has moved every alias and made one of their own.
    mlflow, name = tracking.client(), get_settings().model_name(tiny.name)
    for alias, version in (("champion", 3), ("previous", 3), ("mine", 1)):
        mlflow.set_registered_model_alias(name, alias, str(version))
    mlflow.delete_registered_model_alias(name, "challenger")

    wanted = reconcile_aliases(tiny)

    assert wanted == {"champion": 2, "previous": 1, "challenger": third.version}
    assert aliases_of(tiny) == {**wanted, "mine": 1}
    assert promotions.champion(tiny.name) == promotions.Champion(second.digest, 2)
    assert Path(get_settings().release_url).exists()
