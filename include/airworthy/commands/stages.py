"""Commands that run one stage in this process, as the DAGs do: for development, and for a day without Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from airworthy.commands.output import UseCaseName, Why, actor, by_hand, run_name, say, show_record, use_case

if TYPE_CHECKING:
    from airworthy.config import UseCase

Day = Annotated[str, typer.Argument(help="The interval, such as 2013-01-31.")]


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for function in (ingest, score, train, deliver, skew, monitor):
        app.command(function.__name__)(function)
    app.command("blast-radius")(blast_radius)


def ingest(name: UseCaseName, day: Day) -> None:
    """Take one landed interval: validate it, publish what is clean."""
    from airworthy.ingest import ingest_interval
    from airworthy.intervals import Interval

    case = use_case(name)
    with by_hand("ingest", case.name, day) as act:
        outcome = ingest_interval(case, Interval.of(day), run=run_name())
        act.outcome = outcome.status
    show_record(outcome)


def score(
    name: UseCaseName,
    day: Annotated[str, typer.Argument(help="The interval, such as 2013-01-31.")] = "",
    outdated: Annotated[
        bool, typer.Option("--outdated", help="Instead: every scored interval whose rows or features changed since.")
    ] = False,
) -> None:
    """Predict every row of a published interval with the champion, into the table of scores."""
    from airworthy.intervals import Interval
    from airworthy.serving import batch

    if bool(day) == outdated:
        raise typer.BadParameter("give an interval, or --outdated")
    case = use_case(name)
    keys = [day] if day else list(batch.outdated(case))
    if not keys:
        say(f"no batch scores of {case.name} are outdated")
    for key in keys:
        with by_hand("score", case.name, key) as act:
            outcome = batch.score(case, Interval.of(key), run=run_name())
            act.outcome = outcome.reason
        show_record(outcome)


def train(
    name: UseCaseName,
    why: Why = "asked for by hand",
    candidate_only: Annotated[
        bool, typer.Option("--candidate-only", help="Judge it, but do not make it a challenger.")
    ] = False,
) -> None:
    """Build and check the training set, search, fit, judge, and register a challenger when it passes.

    What is searched, with which seed and budget, is in use_case.yaml alone. After a kill run it again: on the same
    training set it goes on where it stopped, and comes to the same model. `airworthy tried` shows it among the others.
    """
    case, run = use_case(name), run_name()
    with by_hand("train", case.name, "candidate only" if candidate_only else "", why) as act:
        act.outcome = _train(case, run, why, candidate_only)


def _train(case: UseCase, run: str, why: str, candidate_only: bool) -> str:
    from airworthy import measuring
    from airworthy.evaluation import judge
    from airworthy.evaluation.run_record import note_judged, publish_record
    from airworthy.evaluation.tried_page import publish_tried
    from airworthy.ledger.usage import TaskName, record_usage
    from airworthy.registry import register
    from airworthy.training import build_training_set, fit
    from airworthy.training.estimate import note_search
    from airworthy.training.search import search

    used = measuring.start()
    training_set = build_training_set(case, run=run)
    attempt = f"{run}/train-{training_set.digest[:12]}"
    say(f"training set {training_set.digest[:12]}: {training_set.train_rows} rows, holdout {training_set.holdout_rows}")
    say(f"{len(training_set.checks)} checks of the set passed")
    found = search(case, training_set, run=run, say=say)
    say(found.reason)
    note_search(case, attempt, "train", found)
    candidate = fit(case, training_set, run=run, search=found)
    say(f"candidate {candidate.model_digest[:12]}, MLflow run {candidate.run_id}")
    causes = {run: {"cause": "on_demand", "evidence": {"reason": why}, "requested_by": run}}
    verdict = judge(case, candidate, causes=causes)
    note_judged(attempt, "train", candidate, verdict, causes)
    say(f"{verdict.decision}: {verdict.summary}")
    if verdict.decision == "pass" and not candidate_only:
        show_record(register(case, candidate, verdict))
    record_usage(TaskName(run=attempt, dag=f"{case.name}.train", task="train"), used(), "done")
    publish_record(attempt, candidate.run_id)
    publish_tried(case)
    return f"{verdict.decision}: {verdict.summary}"


def deliver(
    name: UseCaseName,
    approve: Annotated[
        str, typer.Option("--approve", metavar="WHY", help="Approve it, where use_case.yaml asks for a person.")
    ] = "",
    again: Annotated[
        str,
        typer.Option(
            "--again", metavar="DIGEST", help="First make this release, turned down before, a challenger again."
        ),
    ] = "",
) -> None:
    """Deliver the newest challenger: staging check, approval, trial beside the champion, promotion, watch.

    After a kill run it again: it goes on from where the ledger says that it stands (`airworthy deliveries`).
    """
    from airworthy import delivery

    case, run = use_case(name), run_name()
    with by_hand("deliver", case.name, again, approve) as act:
        if again:
            delivery.again(case, again, why=f"delivered again by {actor()}")
        outcome = delivery.deliver(case, run=run, approve=(actor(), approve) if approve else None)
        act.outcome = f"{outcome.status}: {outcome.reason}"
    show_record(outcome)


def skew(
    name: UseCaseName,
    last_day: Day,
    days: Annotated[int, typer.Option("--days", min=1, help="Length of the window.")] = 7,
) -> None:
    """Recompute the feature vectors that were served in a window, and name every feature that differs."""
    from airworthy.intervals import Interval
    from airworthy.monitoring import skew as skew_stage

    case = use_case(name)
    with by_hand("skew", case.name, f"{days} days until {last_day}"):
        outcome = skew_stage(case, Interval.of(last_day), days, run=run_name())
    show_record(outcome)


def monitor(
    name: UseCaseName,
    last_day: Day,
    days: Annotated[int, typer.Option("--days", min=1, help="Length of the window.")] = 7,
) -> None:
    """Look at the predictions of a window, and ask for a training when the rules say so."""
    from airworthy.intervals import Interval
    from airworthy.monitoring import monitor as monitor_stage

    case = use_case(name)
    with by_hand("monitor", case.name, f"{days} days until {last_day}"):
        show_record(monitor_stage(case, Interval.of(last_day), days, run=run_name()))


def blast_radius(
    name: UseCaseName,
    first: Annotated[str, typer.Option("--from", metavar="DAY", help="First interval, such as 2013-01-31.")],
    last: Annotated[str, typer.Option("--to", metavar="DAY", help="Last interval, included.")],
) -> None:
    """Say what an ingest of these intervals would change now, down to models and predictions. Changes nothing."""
    from airworthy.intervals import Interval
    from airworthy.monitoring import blast_radius as look

    show_record(look(use_case(name), Interval.of(first), Interval.of(last)))
