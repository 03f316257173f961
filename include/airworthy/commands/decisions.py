"""Commands about what was decided: champion, promotions, rollback."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from airworthy.commands.output import UseCaseName, Why, actor, by_hand, say, show_record, show_table, use_case

SHORT = 12


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("champion")(champion)
    app.command("promotions")(promotions)
    app.command("deliveries")(deliveries)
    app.command("rollback")(rollback)


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


def deliveries(
    name: Annotated[str, typer.Argument(metavar="[USE_CASE]", help="Only of this use case.")] = "",
    moves: Annotated[int, typer.Option("--moves", metavar="NUMBER", help="Show every move of one delivery.")] = 0,
) -> None:
    """Show where each delivery stands, oldest first; or every move of one, with its figures."""
    from airworthy.ledger import deliveries as ledger

    if moves:
        rows = [
            (f"{m.at:%Y-%m-%d %H:%M:%S}", m.from_state or "", m.to_state, m.reason, _figures(m.figures))
            for m in ledger.moves(moves)
        ]
        show_table(f"Delivery {moves}", ("at (UTC)", "from", "to", "why", "figures"), rows)
        return
    found = [
        (
            r.id,
            r.use_case,
            r.release_digest[:SHORT],
            r.state,
            f"{r.since:%Y-%m-%d %H:%M:%S}",
            r.approver or "",
            r.reason,
        )
        for r in ledger.deliveries(use_case(name).name if name else None)
    ]
    show_table("Deliveries", ("number", "use case", "release", "state", "since (UTC)", "approved by", "why"), found)


def _figures(figures: dict[str, Any]) -> str:
    flat = {
        f"{name} {inner}" if inner else name: value
        for name, part in figures.items()
        for inner, value in (part.items() if isinstance(part, dict) else [("", part)])
    }
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in flat.items()
    )


def rollback(
    name: UseCaseName,
    why: Why,
    to: Annotated[
        str, typer.Option("--to", help="First digits of a release's digest; the one before by default.")
    ] = "",
) -> None:
    """Go back to a release that served before; returns when every worker answers with it."""
    from airworthy.delivery import rollback as back

    case = use_case(name)
    with by_hand("rollback", case.name, to or "the one before", why) as act:
        outcome = back(case, to=to or None, who=actor(), why=why)
        act.outcome = f"{outcome.from_digest[:SHORT]} to {outcome.to_digest[:SHORT]}, generation {outcome.generation}"
    show_record(outcome)
