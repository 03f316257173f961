"""Commands about features: what is defined, what uses it, and building what is behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from airworthy.commands.output import UseCaseName, by_hand, run_name, say, show_record, show_table, use_case
from airworthy.errors import ConfigurationError

if TYPE_CHECKING:
    from airworthy.features.usage import Use

SHORT = 12
features_app = typer.Typer(help="Feature views: what there is, what uses it, and building it.", no_args_is_help=True)


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    features_app.command("list")(features_list)
    features_app.command("show")(features_show)
    features_app.command("build")(features_build)
    app.add_typer(features_app, name="features")


def features_list(
    name: Annotated[str, typer.Argument(metavar="[USE_CASE]", help="All use cases by default.")] = "",
) -> None:
    """List the feature views, with the models that use them; a definition under two names is pointed out."""
    from airworthy.config import use_cases
    from airworthy.features import duplicates
    from airworthy.features.catalog import catalog
    from airworthy.features.usage import uses

    cases = [use_case(name)] if name else list(use_cases().values())
    catalogs = [catalog(case) for case in cases]
    rows = [
        (
            view.name,
            ", ".join(view.keys),
            ", ".join(view.view.sources),
            view.view.ttl or "no limit",
            len(view.features),
            view.view.owner or case.owner,
            view.definition[:SHORT],
            ", ".join(map(_words, uses(view))) or "no release",
        )
        for case, each in zip(cases, catalogs, strict=True)
        for view in each.views
    ]
    columns = ("view", "entity", "sources", "ttl", "features", "owner", "definition", "used by")
    show_table("Feature views", columns, rows)
    for names in duplicates(catalogs):
        say(f"the same definition under {len(names)} names, one is enough: {', '.join(names)}")


def features_show(name: Annotated[str, typer.Argument(metavar="VIEW", help="Such as flight_delays_weather.")]) -> None:
    """Show one feature view: owner, entity, sources, ttl, features, who uses it, and its definition as SQL."""
    import sqlglot

    from airworthy.config import use_cases
    from airworthy.features.catalog import catalog
    from airworthy.features.usage import uses

    found = {view.name: (case, view) for case in use_cases().values() for view in catalog(case).views}
    if name not in found:
        raise ConfigurationError(f"there is no feature view {name!r}", next_step=f"choose one of {', '.join(found)}")
    case, compiled = found[name]
    view = compiled.view
    lines = {
        "view": f"{compiled.name}: {view.description or 'no description'}",
        "owner": view.owner or case.owner,
        "entity": _typed(compiled.keys),
        "sources": ", ".join(case.table("clean", source) for source in view.sources)
        + (f", {view.lookback_days} days back" if view.lookback_days else "")
        + (", pushed as they happen" if view.pushed else ""),
        "table": compiled.table,
        "ttl": view.ttl or "no limit",
        "missing": f"{_fallback(view.on_missing)}; stale: {_fallback(view.on_stale)}; store away: {_fallback(view.on_outage)}",
        "features": _typed(compiled.features),
        "service": case.training.feature_service,
        "definition": compiled.definition,
    }
    for label, value in lines.items():
        say(f"{label:<11}{value}")
    for words in [_words(use, whole=True) for use in uses(compiled)] or ["no release"]:
        say(f"{'used by':<11}{words}")
    say(sqlglot.transpile(compiled.sql, read="duckdb", write="duckdb", pretty=True)[0])


def features_build(name: UseCaseName) -> None:
    """Build every feature interval that is behind its inputs, and publish the newest values online."""
    from airworthy.features import catch_up

    case = use_case(name)
    with by_hand("build features", case.name) as act:
        outcome = catch_up(case, run=run_name())
        act.outcome = outcome.reason
    show_record(outcome)


def _typed(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


def _fallback(choice: str) -> str:
    return {"null": "its features are null", "refuse": "no prediction is made"}[choice]


def _words(use: Use, *, whole: bool = False) -> str:
    words = f"{use.state} v{use.version}" if use.version is not None else f"{use.state} {use.release[:SHORT]}"
    if whole:
        words += f", release {use.release[:SHORT]}, by {use.feature_service}"
    return words if use.as_defined else f"{words} (with another definition)"
