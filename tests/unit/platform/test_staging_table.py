"""The table of a pull request: what a change does to the models, with intervals."""

from __future__ import annotations

from airworthy.platform.staging_run import Metric, Staged, StagedCase
from airworthy.platform.staging_table import table


def staged(revision: str, name: str = "shop", **metrics: tuple[float, float, float]) -> Staged:
    case = StagedCase(
        use_case=name, intervals=13, rows=1560, train_rows=700, holdout_rows=600, decision="pass", summary="",
        metrics={n: Metric(value=v, low=low, high=high) for n, (v, low, high) in metrics.items()}, served={},
        seconds={"fit": 1.0},
    )  # fmt: skip
    return Staged(revision=revision, cases={name: case})


def lines(base: Staged, change: Staged) -> dict[str, str]:
    rows = [line for line in table(base, change).splitlines() if line.startswith("| ")]
    return {row.split("|")[1].strip(): row for row in rows}


def test_a_figure_outside_of_the_bases_interval_is_better_or_worse_by_its_kind() -> None:
    base = staged("a" * 40, roc_auc=(0.70, 0.68, 0.72), log_loss=(0.50, 0.48, 0.52), brier=(0.2, 0.19, 0.21))
    change = staged("b" * 40, roc_auc=(0.75, 0.73, 0.77), log_loss=(0.55, 0.53, 0.57), brier=(0.201, 0.19, 0.21))

    rows = lines(base, change)

    assert rows["roc_auc"].endswith("| +0.0500 | outside, better |")
    assert rows["log_loss"].endswith("| +0.0500 | outside, **worse** |")
    assert rows["brier"].endswith("| +0.0010 |  |")
    assert "0.7000 (0.6800 to 0.7200)" in rows["roc_auc"]


def test_what_only_one_side_has_is_said() -> None:
    base, change = staged("a" * 40, roc_auc=(0.7, 0.6, 0.8)), staged("b" * 40, brier=(0.2, 0.1, 0.3))

    assert "only one has it" in lines(base, change)["brier"]
    assert "**other** is only in the change." in table(base, staged("b" * 40, "other"))
