"""Two staging runs of the same samples side by side, as Markdown: what a change does to the models."""

from __future__ import annotations

from airworthy.platform.staging_run import Metric, Staged, StagedCase

LOWER_IS_BETTER = frozenset({"log_loss", "brier", "expected_cost", "calibration_error"})


def table(base: Staged, change: Staged) -> str:
    """A table for each use case; the intervals are percentile bootstrap intervals over the holdout's rows, 95 %."""
    parts = [f"### Metrics: `{change.revision[:12]}` against `{base.revision[:12]}`"]
    for name in sorted(base.cases.keys() | change.cases.keys()):
        old, new = base.cases.get(name), change.cases.get(name)
        if old is None or new is None:
            parts.append(f"**{name}** is only in {'the base' if new is None else 'the change'}.")
        else:
            parts.append(_of_case(old, new))
    parts.append(
        "On a fixed sample, of which the holdout is scored by both. *Outside*: the change's figure is outside of the base's "
        "95 % bootstrap interval. The verdict on a sample is a test of the pipeline, not of a model that would serve."
    )
    return "\n\n".join(parts)


def _of_case(old: StagedCase, new: StagedCase) -> str:
    lines = [
        f"**{new.use_case}**: {new.train_rows:,} + {new.holdout_rows:,} rows (base {old.train_rows:,} + "
        f"{old.holdout_rows:,}); gate: {new.decision} (base {old.decision})",
        "",
        "| metric | base | change | difference | |",
        "|---|---|---|---|---|",
    ]
    for metric in sorted(old.metrics.keys() | new.metrics.keys()):
        before, after = old.metrics.get(metric), new.metrics.get(metric)
        difference = f"{after.value - before.value:+.4f}" if before and after else ""
        lines.append(
            f"| {metric} | {_show(before)} | {_show(after)} | {difference} | {_words(metric, before, after)} |"
        )
    seconds = [f"{step} {old.seconds.get(step, 0):.1f} → {took:.1f}" for step, took in new.seconds.items()]
    return "\n".join([*lines, "", f"Seconds (two runs, one each): {', '.join(seconds)}"])


def _show(metric: Metric | None) -> str:
    return f"{metric.value:.4f} ({metric.low:.4f} to {metric.high:.4f})" if metric else "absent"


def _words(name: str, before: Metric | None, after: Metric | None) -> str:
    if before is None or after is None:
        return "only one has it"
    if before.value == after.value:
        return "equal"
    if before.low <= after.value <= before.high:
        return ""
    better = (after.value < before.value) == (name in LOWER_IS_BETTER)
    return f"outside, {'better' if better else '**worse**'}"
