"""Commands about releases of the pipeline itself: ``airworthy release ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from airworthy.commands.output import Why, actor, by_hand, run_name, say, show_json, show_table

SHORT = 12
group = typer.Typer(
    name="release",
    help="Releases of the pipeline itself: build, try, switch.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Digest = Annotated[str, typer.Argument(metavar="RELEASE", help="The release, or the start of its digest.")]


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(group)


@group.command()
def build(
    revision: Annotated[str, typer.Argument(help="A tested revision: a whole commit id.")],
    staging: Annotated[bool, typer.Option("--staging", help="Play the use cases' samples with it as well.")] = False,
) -> None:
    """Build the release of a tested revision, with its environment. An untested one is refused."""
    from airworthy.platform import releasing

    with by_hand("build pipeline release", subject=revision) as act:
        release = releasing.build(revision, say=say)
        act.outcome = f"release {release.digest[:SHORT]}"
        if staging:
            show_json(releasing.try_in_staging(release, say=say).to_json())
            act.outcome += " passed its staging run"


@group.command()
def attest(
    by: Annotated[str, typer.Option("--by", help="Who tested, and where: the address of a CI run.")] = "",
) -> None:
    """Tag this checkout's revision as tested, after its tests passed. Push the tag to let it be released."""
    import tempfile

    from airworthy.config.settings import PROJECT_ROOT
    from airworthy.platform import releasing, revisions
    from airworthy.training.folders import sha256

    with tempfile.TemporaryDirectory() as scratch:
        wheel = sha256(releasing.build_wheel(PROJECT_ROOT, Path(scratch)).read_bytes())
    say(revisions.attest(by or run_name(), wheel))


@group.command()
def package(
    to: Annotated[Path, typer.Option("--to", help="Folder of what is built.")] = Path("var/package"),
) -> None:
    """Build the wheel of this checkout; its digest and the lock's are written beside it."""
    import json

    from airworthy.config.settings import PROJECT_ROOT
    from airworthy.platform import releasing
    from airworthy.training import tracking
    from airworthy.training.folders import sha256

    wheel = releasing.build_wheel(PROJECT_ROOT, to)
    lock = (PROJECT_ROOT / "uv.lock").read_bytes()
    digests = {"revision": tracking.revision(), "wheel": wheel.name, "wheel_sha256": sha256(wheel.read_bytes())}
    text = json.dumps(digests | {"lock_sha256": sha256(lock)}, indent=1)
    (to / "digests.json").write_text(text)
    say(text)


@group.command()
def metrics(
    to: Annotated[Path, typer.Option("--to", help="File of the figures.")] = Path("var/metrics.json"),
) -> None:
    """Take the use cases' fixed samples from landed files to an answer, on a PostgreSQL of its own; write the figures."""
    from airworthy.platform.staging import measure

    measure(to, say=say)
    say(str(to))


@group.command()
def compare(
    base: Annotated[Path, typer.Argument(help="Figures of the main branch.", exists=True)],
    change: Annotated[Path, typer.Argument(help="Figures of the change.", exists=True)],
) -> None:
    """Two files of figures as a table in Markdown."""
    from airworthy.platform.staging_run import Staged
    from airworthy.platform.staging_table import table

    first, second = (Staged.model_validate_json(path.read_bytes()) for path in (base, change))
    typer.echo(table(first, second))


@group.command("list")
def show_list() -> None:
    """Show the releases that were built, the revisions that were taken, and the switches."""
    from airworthy.ledger import pipeline_releases as ledger

    present = ledger.current()
    rows = [
        (
            "runs" if r.digest == present else "",
            r.digest[:SHORT],
            r.revision[:SHORT],
            r.record["tested_by"],
            f"{r.built_at:%Y-%m-%d %H:%M}",
            f"{r.staged_at:%Y-%m-%d %H:%M}" if r.staged_at else "not tried",
        )
        for r in ledger.built()
    ]
    show_table("Releases of the pipeline", ("", "release", "revision", "tested by", "built (UTC)", "staging"), rows)
    asked = [
        (r.revision[:SHORT], r.target, r.state, (r.digest or "")[:SHORT], f"{r.at:%Y-%m-%d %H:%M}", r.reason)
        for r in ledger.requests()
    ]
    show_table("Revisions taken", ("revision", "for", "state", "release", "at (UTC)", "reason"), asked)
    log = [
        (s.generation, _short(s.from_digest), _short(s.to_digest), s.state, s.who, s.why, s.reason)
        for s in ledger.switches()
    ]
    show_table("Switches", ("generation", "from", "to", "state", "who", "why", "outcome"), log)


@group.command()
def switch(
    release: Annotated[
        str, typer.Argument(metavar="RELEASE", help="The release, or the start of its digest; `checkout` for none.")
    ],
    why: Why = "",
) -> None:
    """Switch the platform to a release: drain, restart, health check; it falls back by itself when unhealthy."""
    from airworthy.platform import releasing, switching

    target = None if release == switching.CHECKOUT else releasing.find(release)
    with by_hand("switch pipeline", subject=release, why=why) as act:
        generation = switching.ask(target, who=run_name(), why=why or "by hand")
        done = switching.carry_out(say=say, generation=generation)
        act.outcome = f"generation {generation} {'runs' if done else 'did not get to run'}"
    raise typer.Exit(0 if done else 1)


@group.command()
def resume(
    by_itself: Annotated[
        bool, typer.Option("--by-itself", hidden=True, help="Nobody asked: no person's action.")
    ] = False,
) -> None:
    """Finish a switch that was interrupted; nothing to do is no error."""
    from airworthy.ledger.audit import PLATFORM, record_action
    from airworthy.platform import switching

    done = switching.carry_out(say=say)
    if not by_itself:  # only now: in the middle of a switch the ledger is away
        outcome = "carried out, or there was none" if done else "failed"
        record_action(actor(), "resume switch of pipeline", PLATFORM, "", "", "shell", outcome)
    raise typer.Exit(0 if done else 1)


@group.command()
def status() -> None:
    """Show which release runs, and whether a switch is going on."""
    from airworthy.platform import switching

    show_json(switching.describe())


def _short(digest: str | None) -> str:
    return digest[:SHORT] if digest else "checkout"
