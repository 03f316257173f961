"""Commands about what was decided: champion, promotions, rollback, quarantine."""

from __future__ import annotations

from typing import Annotated

import typer

from airworthy.commands.output import UseCaseName, Why, run_name, say, show_json, show_record, show_table, use_case

SHORT = 12
quarantine_app = typer.Typer(help="What was rejected, with the reason.", no_args_is_help=True)


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("champion")(champion)
    app.command("promotions")(promotions)
    app.command("rollback")(rollback)
    quarantine_app.command("list")(quarantine_list)
    quarantine_app.command("show")(quarantine_show)
    app.add_typer(quarantine_app, name="quarantine")


def champion(name: UseCaseName) -> None:
    """Show who is champion, and which workers answer with it."""
    from airworthy.errors import NoChampionError
    from airworthy.ledger import promotions as log

    case = use_case(name)
    present = log.champion(case.name)
    if present is None:
        raise NoChampionError(
            f"{case.name} has no champion yet", next_step="train one: `airworthy train`, or the DAG `.train`"
        )
    release = log.get_release(present.digest)
    say(f"release    {present.digest}")
    say(f"generation {present.generation}")
    if release:
        say(f"version    {release.version} of the registered model; verdict {release.verdict_id}")
    for worker in log.live_workers(case.name):
        serves = (worker.digest or "nothing")[:SHORT]
        words = f"answers with {serves}, generation {worker.generation} {worker.error or ''}".rstrip()
        say(f"worker     {worker.instance}/{worker.pid} {words}")


def promotions(name: UseCaseName) -> None:
    """Show the promotion log, oldest first."""
    from airworthy.ledger import promotions as log

    rows = [
        (
            r.generation,
            r.action,
            (r.from_digest or "")[:SHORT],
            r.to_digest[:SHORT],
            f"{r.at:%Y-%m-%d %H:%M}",
            f"{r.data_time:%Y-%m-%d}",
            r.who,
            r.why,
        )
        for r in log.promotion_log(use_case(name).name)
    ]
    show_table("Promotion log", ("generation", "action", "from", "to", "at (UTC)", "data time", "who", "why"), rows)


def rollback(
    name: UseCaseName,
    why: Why,
    to: Annotated[
        str, typer.Option("--to", help="First digits of a release's digest; the one before by default.")
    ] = "",
) -> None:
    """Go back to a release that served before; returns when every worker answers with it."""
    from airworthy.delivery import rollback as back

    show_record(back(use_case(name), to=to or None, who=run_name(), why=why))


def quarantine_list(name: UseCaseName) -> None:
    """List the intervals with something in quarantine: rejected files, and rejected rows of published intervals."""
    from airworthy.ledger.commits import decided_intervals

    rows = []
    for key, decided in decided_intervals(use_case(name).name).items():
        counts = {s: n for s, n in decided.outcome.get("rows_rejected", {}).items() if n}
        if decided.status == "rejected" or counts:
            what = (
                "the whole interval"
                if decided.status == "rejected"
                else ", ".join(f"{s}: {n} rows" for s, n in counts.items())
            )
            rows.append((key, what, decided.reason))
    show_table("In quarantine", ("interval", "what", "reason"), rows)


def quarantine_show(
    name: UseCaseName,
    day: Annotated[str, typer.Argument(help="The interval, such as 2013-01-31.")],
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many rows of each source.")] = 20,
) -> None:
    """Show what an interval has in quarantine, with the reasons, as JSON."""
    from airworthy.intervals import Interval
    from airworthy.lake import quarantine
    from airworthy.ledger.commits import decided_intervals

    case, interval = use_case(name), Interval.of(day)
    decided = decided_intervals(case.name).get(interval.key)
    shown: dict[str, object] = {"interval": interval.key, "status": decided.status if decided else "never ingested"}
    if decided:
        shown["reason"] = decided.reason
    for source in case.sources:
        rows = quarantine.read_rows(case, source, interval, interval)
        if rows.num_rows:
            shown[source] = {"rows": rows.num_rows, "first": rows.slice(0, limit).to_pylist()}
        if decided and (reason := quarantine.read_reason(case, interval, decided.landed_digest, source)):
            shown[f"{source} (file)"] = reason | {
                "folder": quarantine.files_folder(case, interval, decided.landed_digest)
            }
    show_json(shown)
