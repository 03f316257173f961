"""Commands for a bad day: backup, restore, the drill that tries both; housekeeping; and forgetting a key."""

from __future__ import annotations

from typing import Annotated

import typer

from airworthy.commands.output import UseCaseName, actor, by_hand, say, show_record, show_table, use_case


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for function in (backup, restore, drill, tidy, forget):
        app.command(function.__name__)(function)


def backup(
    to: Annotated[str, typer.Option("--to", help="Folder or URL; AIRWORTHY_BACKUP_URL by default.")] = "",
    with_airflow: Annotated[bool, typer.Option("--with-airflow", help="Airflow's run history too.")] = False,
    keep: Annotated[int, typer.Option("--keep", min=1, help="So many backups stay.")] = 7,
    show: Annotated[bool, typer.Option("--list", help="Only show the backups that there are.")] = False,
) -> None:
    """Save ledger, registries, lake, releases and MLflow's artifacts, as of one moment of the ledger."""
    from airworthy.platform import backup as backups

    if show:
        found = [(url, backups.read_manifest(url)) for url in backups.backups(to)]
        rows = [
            (url, f"{b.at:%Y-%m-%d %H:%M:%S}", len(b.files), f"{sum(s for s, _ in b.files.values()) / 1e6:.1f}")
            for url, b in found
        ]
        show_table("Backups", ("where", "recovery point (UTC)", "files", "MB"), rows)
        return
    with by_hand("backup", subject=to) as act:
        url, made = backups.backup(to, with_airflow=with_airflow, keep=keep, say=say)
        act.outcome = url
    say(f"backup {url} in {made.seconds:.1f} s; recovery point {made.at:%Y-%m-%d %H:%M:%S} UTC")


def restore(
    url: Annotated[str, typer.Argument(metavar="FROM", help="A backup, see `airworthy backup --list`.")],
    into: Annotated[str, typer.Option("--into", help="A new folder, for a scratch copy with its own databases.")] = "",
) -> None:
    """Put a backup back and compare it: into an empty platform that is down, or into a scratch place."""
    from airworthy.platform.restoring import restore as put_back

    show_record(put_back(url, into=into, who=actor(), say=say))


def drill(
    url: Annotated[str, typer.Argument(metavar="[FROM]", help="A backup; the newest by default.")] = "",
) -> None:
    """Restore into a scratch place, compare, remove it, and note in the ledger how long it took."""
    from airworthy.platform.restoring import drill as try_it

    with by_hand("restore drill", subject=url):
        show_record(try_it(url, say=say))


def tidy(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show which releases are needed and why, and what would go.")
    ] = False,
) -> None:
    """Join small files; remove what nobody needs: old versions, Data Docs, collected spool files, releases, training sets."""
    from datetime import timedelta

    from airworthy.config import get_settings
    from airworthy.config.use_case import use_cases
    from airworthy.platform import pipeline_retention
    from airworthy.platform.record_retention import old_studies, old_usage
    from airworthy.platform.release_retention import plan
    from airworthy.platform.retention import tidy as tidy_up

    if dry_run:
        for case in use_cases().values():
            show_record(plan(case))
            studies = len(old_studies(case, timedelta(days=get_settings().keep_days)))
            say(
                f"{case.name}: trials of {studies} searches and what {old_usage(case)} tries of tasks used would go, too"
            )
        show_record(pipeline_retention.plan())
        return
    with by_hand("tidy") as act:
        outcome = tidy_up()
        act.outcome = f"{sum(outcome.removed.values())} files of old versions, {len(outcome.releases)} releases removed"
    show_record(outcome)


def forget(
    name: UseCaseName,
    key: Annotated[str, typer.Argument(metavar="COLUMN=VALUE", help="The key, such as customer=c07.")],
) -> None:
    """Remove a key's rows everywhere, for good, and say which models were trained on them."""
    from airworthy.errors import ConfigurationError
    from airworthy.platform.forgetting import forget as remove

    column, given, value = key.partition("=")
    if not (column and given and value):
        raise ConfigurationError("the key is not COLUMN=VALUE", next_step="give it as in customer=c07")
    case = use_case(name)
    # Never the key itself, and no word that may be one by mistake.
    known = any(column in source.columns for source in case.sources.values())
    with by_hand("forget", case.name, f"a key of {column}" if known else "a key") as act:
        outcome = remove(case, column, value, who=actor())
        act.outcome = f"{sum(outcome.rows.values())} rows removed"
    show_record(outcome)
