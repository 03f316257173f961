"""Commands about runs: what each used and cost, what was tried and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from airworthy.commands.output import UseCaseName, say, show_json, show_table, use_case

if TYPE_CHECKING:
    from collections.abc import Callable

    from airworthy.ledger.models import TaskUsage

Of = Annotated[str, typer.Option("--use-case", help="Only this use case.")]
USED = ("tasks", "seconds", "CPU-s", "peak GB", "GB written", "cost")


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for function in (runs, cost, tried):
        app.command(function.__name__)(function)


def runs(
    run: Annotated[str, typer.Argument(metavar="[RUN]", help="A run, <dag_id>/<run_id>: show its tasks.")] = "",
    of: Of = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many of the newest runs.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known of the run, as JSON.")] = False,
) -> None:
    """Show what runs used and cost; of one run, each of its tasks."""
    from airworthy.ledger import usage

    if as_json and run:
        from airworthy.evaluation.run_record import run_record

        return show_json(run_record(run))
    if not run:
        groups = _grouped(usage.usages(of or None), lambda row: row.run)
        newest = sorted(groups.items(), key=lambda item: item[1][0].started_at, reverse=True)[:limit]
        # Lines and no table: the name of a run is longer than a terminal is wide, and is wanted whole.
        for name, found in newest:
            total = usage.cost(found)
            say(f"{found[0].started_at:%Y-%m-%d %H:%M:%S}  {total.seconds:7.1f} s  {total.words:<72}  {name}")
        return None if newest else say("nothing was measured yet")
    from airworthy.evaluation.run_record import run_record

    run_record(run)  # says so when nothing is known of it
    found = usage.usage_of(run)
    tasks = [
        (r.task if r.map_index < 0 else f"{r.task}[{r.map_index}]", r.try_number, r.outcome, *_sums([r])[1:])
        for r in found
    ]
    show_table(run, ("task", "try", "outcome", *USED[1:]), tasks)
    return say(f"all of it: {usage.cost(found).words}")


def cost(
    of: Of = "",
    days: Annotated[int, typer.Option("--days", min=1, help="Of the last so many days (wall time).")] = 30,
) -> None:
    """Show what each DAG used and cost, and the rates."""
    from datetime import timedelta

    from airworthy.config import get_settings
    from airworthy.ledger import usage
    from airworthy.ledger.clock import wall_now

    found = usage.usages(of or None, wall_now() - timedelta(days=days))
    groups = _grouped(found, lambda row: f"{row.use_case}.{row.family}")
    lines = [(name, len({r.run for r in rows}), *_sums(rows)) for name, rows in sorted(groups.items())]
    total = [("all", len({r.run for r in found}), *_sums(found))] if found else []
    show_table(f"The last {days} days", ("DAG", "runs", *USED), [*lines, *total])
    rates = get_settings()
    say(
        f"rates: {rates.cost_per_cpu_hour} {rates.cost_currency} a CPU-hour, {rates.cost_per_gb_hour} a GB-hour, "
        f"{rates.cost_per_gb_written} a GB written (AIRWORTHY_COST_PER_CPU_HOUR, _GB_HOUR, _GB_WRITTEN, "
        "AIRWORTHY_COST_CURRENCY)"
    )


def tried(name: UseCaseName) -> None:
    """Show every training and experiment and what came of it; makes the page of them again."""
    from airworthy.evaluation.tried_page import publish_tried
    from airworthy.evaluation.tried_page import tried as rows_of

    case = use_case(name)
    rows = [
        (
            r.at, r.kind, r.why, r.algorithm.rpartition(".")[2], r.features, "" if r.roc_auc is None else f"{r.roc_auc:.4f}",
            r.became, r.cost,
        )
        for r in rows_of(case)
    ]  # fmt: skip
    columns = ("started (UTC)", "what", "why", "algorithm", "features", "ROC AUC", "what came of it", "cost")
    show_table(f"{case.name}: what was tried, newest first", columns, rows)
    say(publish_tried(case))


def _grouped(rows: list[TaskUsage], key: Callable[[TaskUsage], str]) -> dict[str, list[TaskUsage]]:
    groups: dict[str, list[TaskUsage]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _sums(rows: list[TaskUsage]) -> tuple[object, ...]:
    from airworthy.ledger import usage

    total = usage.cost(rows)
    return (
        total.tasks, f"{total.seconds:.1f}", f"{total.cpu_seconds:.1f}", f"{total.peak_memory_bytes / usage.GB:.2f}",
        f"{total.bytes_written / usage.GB:.3f}", usage.price(total.amount),
    )  # fmt: skip
