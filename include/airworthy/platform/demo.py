"""``make demo``: a year of flights is replayed against the running platform.

The demo plays the outside world only: it lands files, pushes observations, asks for predictions and brings labels. It
starts one backfill, as an operator would, and watches by REST. Ingest, training, delivery and monitoring run by their
own watchers, schedules and events; whatever they decide is what is told.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console

from airworthy.config import UseCase, get_settings, get_use_case
from airworthy.delivery import again, candidates
from airworthy.errors import ServiceUnavailableError
from airworthy.evaluation.documents import brief
from airworthy.intervals import Interval, days
from airworthy.ledger import deliveries, promotions
from airworthy.ledger.clock import advance, data_now
from airworthy.ledger.commits import decided_intervals
from airworthy.platform.airflow_api import AirflowApi
from airworthy.platform.load import Load
from airworthy.platform.story import Story, table
from airworthy.platform.watching import ENDED, Watcher, check_load, skew_found
from airworthy.serving import game_day


@dataclass(frozen=True)
class Plan:
    """How much of the year is played.

    Attributes:
        first, history_last, live_last: Days: history is backfilled up to ``history_last``, then the world is live.
        requests_per_day: Predictions asked for each live day.
        load_requests: Answered requests during each shown switch.
    """

    first: Interval
    history_last: Interval
    live_last: Interval
    requests_per_day: int = 120
    load_requests: int = 1000


def default_plan() -> Plan:
    """January to March as history, April and May live."""
    return Plan(Interval.of("2013-01-01"), Interval.of("2013-03-31"), Interval.of("2013-05-31"))


class Demo:
    """The story of one use case, step by step."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan, self.console = plan, console
        self.settings = get_settings()
        self.case: UseCase = get_use_case("flight_delays")
        self.story = Story(self.settings.var / "demo.json", console)
        self.api = AirflowApi()
        self.watcher = Watcher(self.case, self.api, self.story.say)

    def run(self) -> None:
        """Play every step; a failing step ends the story with its error."""
        from airworthy.platform.services import up

        with self.story.step("Start the platform") as step:
            step.figures = up(self.story.say)
            step.outcome = "PostgreSQL, MLflow, Airflow and the prediction service are up"
        from use_cases.flight_delays.replay import World

        world = World(self.case)
        self.land_history(world)
        self.backfill()
        self.first_champion(world)
        self.live(world)
        self.tell_monitoring()
        self.refusal()
        self.roll_back()
        self.bad_canary(world)
        self.summary()

    def land_history(self, world: Any) -> None:
        """Files land as an upstream would bring them: one for each source and day, with a manifest."""
        with self.story.step("Land the history") as step:
            advance(self.case, world.landing_time(self.plan.history_last.key))
            history = list(days(self.plan.first, self.plan.history_last))
            total, decided = len(history), decided_intervals(self.case.name)
            landed = sum(world.land_day(day.key) for day in history if day.key not in decided)
            step.figures = {"intervals": total, "files": landed}
            step.outcome = f"{total} days of flights, weather, the airport's state and the aircraft register"

    def backfill(self) -> None:
        """Airflow's own backfill takes the history; it is started here as an operator would."""
        dag, plan = f"{self.case.name}.ingest", self.plan
        keys = {interval.key for interval in days(plan.first, plan.history_last)}
        with self.story.step("Backfill the history through Airflow") as step:
            missing = keys - set(decided_intervals(self.case.name))
            if not missing:
                step.outcome = f"reused: all {len(keys)} intervals were published before"
                return
            self.api.unpause(dag)
            self.api.backfill(dag, plan.first.start, plan.history_last.start, max_active_runs=3)
            self.watcher.watch(
                lambda: keys - set(decided_intervals(self.case.name)), "intervals still to ingest", timeout_s=1800
            )
            self.watcher.watch(
                lambda: [r for r in self.api.runs(dag) if r["state"] not in ENDED], "ingest runs to end", timeout_s=600
            )
            runs = [r for r in self.api.runs(dag) if r["run_type"] == "backfill"]
            decided = decided_intervals(self.case.name)
            rejected = [k for k in keys if decided[k].status == "rejected"]
            rows = sum(sum(decided[k].outcome["rows_in"].values()) for k in keys)
            quarantined = sum(sum(decided[k].outcome["rows_rejected"].values()) for k in keys)
            step.figures = {
                "runs": len(runs),
                "rows_in": rows,
                "rows_quarantined": quarantined,
                "rejected_intervals": rejected,
            }
            step.outcome = (
                f"{len(runs)} runs, {rows:,} rows in, {quarantined} in quarantine, {len(rejected)} intervals rejected"
            )

    def first_champion(self, world: Any) -> None:
        """The monitor asks, ``.train`` and ``.deliver`` follow; clients keep calling all the while."""
        from use_cases.flight_delays.replay import push_latest

        with self.story.step("Train, judge, deliver: the first champion") as step:
            if present := promotions.champion(self.case.name):
                step.outcome = f"reused: release {present.digest[:12]} serves as generation {present.generation}"
                return
            push_latest(world)  # or these clients would be served with the weather of yesterday
            with Load(self.case) as load:
                self.watcher.watch(
                    self.watcher.no_champion,
                    "no champion yet",
                    timeout_s=900,
                    detail=self.watcher.training_state,
                )
                load.wait_for(self.plan.load_requests)
            self.watcher.settle()
            log = promotions.changes(self.case.name)
            verdict = promotions.verdicts(self.case.name)[-1]
            step.figures = {
                "load": load.figures(),
                "verdict": verdict.record["summary"],
                "generation": log[-1].generation,
            }
            check_load(load, "during the switch")
            step.outcome = f"{verdict.record['summary']}; {load.answered:,} requests answered through the switch, {load.failed} failed"

    def live(self, world: Any) -> None:
        """April and May on the replay clock, hour by hour."""
        from use_cases.flight_delays.replay import play

        plan = self.plan
        first = Interval.of(world.day_at(data_now(self.case)))
        with self.story.step("Live: the world goes on, hour by hour") as step:
            if first.start > plan.live_last.start:
                step.outcome = "reused: these days were lived before"
                return
            self.watcher.questions = lambda: self.questions(world)
            figures = play(
                world, first=first.key, last=plan.live_last.key, requests_per_day=plan.requests_per_day,
                wait_for_ingest=self.watcher.wait_for_interval, report=self.story.say,
            )  # fmt: skip
            self.watcher.settle()
            figures["requests_on_trial"] = self.watcher.asked_on_trial
            step.figures = dict(figures)
            step.outcome = ", ".join(
                f"{value:,} {name.replace('_', ' ')}" for name, value in figures.items() if isinstance(value, int)
            )

    def questions(self, world: Any) -> list[dict[str, Any]]:
        """What clients ask about on this day of the world, each flight once, after the newest observations were pushed."""
        from use_cases.flight_delays.replay import push_latest

        push_latest(world)  # what is known at this very moment is in the online store before anybody asks
        day = world.day_at(data_now(self.case))
        asked = [e.requests for e in world.events(day, day, self.plan.requests_per_day, 7) if hasattr(e, "requests")]
        return [request for some in asked for request in some]

    def tell_monitoring(self) -> None:
        """What the weekly monitor found, and what came of it."""
        with self.story.step("What monitoring decided") as step:
            runs = sorted(
                (r for r in self.api.runs(f"{self.case.name}.monitor") if r["note"]),
                key=lambda r: r["partition_key"] or "",
            )
            for run in runs[-9:]:
                self.story.say(f"{(run['partition_key'] or '')[:10]}: {run['note']}")
            trainings = [r for r in self.api.runs(f"{self.case.name}.train") if r["state"] == "success" and r["note"]]
            log = promotions.changes(self.case.name)
            vectors, skewed = skew_found(self.case.name)
            step.figures = {
                "windows": len(runs),
                "trainings": [r["note"] for r in trainings],
                "promotions": len(log),
                "vectors_recomputed": vectors,
                "weeks_with_skew": skewed,
            }
            step.outcome = (
                f"{len(runs)} weeks, {len(promotions.verdicts(self.case.name))} verdicts, {len(log)} promotions; "
                f"{vectors:,} served vectors recomputed, {skewed} weeks with skew"
            )

    def refusal(self) -> None:
        """A candidate trained on flipped labels, through the form of the experiment: the gate must refuse it."""
        with self.story.step("Refusal: a candidate trained on flipped labels") as step:
            champion = promotions.champion(self.case.name)
            run = self.api.trigger(f"{self.case.name}.experiment", {"flip_labels": 1.0, "hand_to_gate": True})
            ended = self.api.wait(f"{self.case.name}.experiment", run, timeout_s=600)
            verdict = promotions.verdicts(self.case.name)[-1]
            step.figures = {"run": run, "decision": verdict.decision, "summary": verdict.record["summary"]}
            step.outcome = brief(str(ended.get("note") or verdict.record["summary"]))
            if verdict.decision != "refuse" or promotions.champion(self.case.name) != champion:
                raise ServiceUnavailableError(
                    "the gate let a model with flipped labels pass", next_step="report this as a bug"
                )

    def roll_back(self) -> None:
        """Back to what served before, by the form, while clients keep calling."""
        with self.story.step("Rollback under load") as step:
            log = promotions.changes(self.case.name)
            if len({row.to_digest for row in log}) < 2:
                step.outcome = "only one release ever served, so there is nothing to roll back to (the later candidates were refused)"
                return
            with Load(self.case, pause=0.01) as load:
                load.wait_for(self.plan.load_requests // 4)
                start = time.monotonic()
                run = self.api.trigger(f"{self.case.name}.rollback", {"to": "", "why": "shown by the demo"})
                self.api.wait(f"{self.case.name}.rollback", run, timeout_s=120)
                generation = promotions.changes(self.case.name)[-1].generation
                load.wait_for(max(self.plan.load_requests, load.answered + 100))
                ended = self.api.run(f"{self.case.name}.rollback", run)
            seconds = round(load.generations.get(generation, float("nan")) - start, 1)
            step.figures = {
                "run": run,
                "note": ended.get("note"),
                "seconds_click_to_first_answer": seconds,
                "load": load.figures(),
            }
            if ended["state"] != "success" or load.failed:
                raise ServiceUnavailableError(
                    f"the rollback failed: {ended.get('note')}; {load.failed} requests failed",
                    next_step="see the run in Airflow",
                )
            answered = f"{load.answered:,} requests, {load.failed} failed"
            step.outcome = f"{ended.get('note')}; {seconds} s from the click to the first answer, {answered}"

    def bad_canary(self, world: Any) -> None:
        """What was rolled back is delivered once more, and this time it misbehaves: its trial must end it, unnoticed."""
        with self.story.step("A bad canary: it aborts by itself") as step:
            champion = promotions.champion(self.case.name)
            withdrawn = [c for c in candidates(self.case) if c.withdrawn]
            if champion is None or not withdrawn:
                step.outcome = "nothing was rolled back, so there is no release to try again"
                return
            release = again(self.case, withdrawn[0].digest, why="delivered once more, to see a canary abort")
            game_day.plan(release.digest, "errors")
            try:
                with Load(self.case, questions=self.questions(world)) as load:
                    run = self.api.trigger(f"{self.case.name}.deliver")
                    self.api.wait(f"{self.case.name}.deliver", run, timeout_s=300)
                    load.wait_for(load.answered + 100)
            finally:
                game_day.end()
            ended = deliveries.deliveries(self.case.name)[-1]
            by_challenger = sum(n for version, n in load.versions.items() if release.digest[:12] in version)
            step.figures = {
                "run": run, "state": ended.state, "why": ended.reason, "load": load.figures(),
                "answered_by_challenger": by_challenger,
            }  # fmt: skip
            check_load(load, "while a bad canary was on trial")
            present = promotions.champion(self.case.name)
            if ended.state != "aborted" or present is None or present.digest != champion.digest:
                raise ServiceUnavailableError(
                    f"a release that fails one request in five ended as {ended.state}: {ended.reason}",
                    next_step="see the run in Airflow, and `airworthy deliveries --moves`",
                )
            step.outcome = (
                f"aborted: {brief(ended.reason)}; {load.answered:,} requests answered meanwhile, {by_challenger} of them by "
                f"the challenger, {load.failed} failed"
            )

    def summary(self) -> None:
        """What was trained, gated, promoted or refused, and where to look."""
        rows = []
        promoted = {row.verdict_id: row for row in promotions.changes(self.case.name)}
        for verdict in promotions.verdicts(self.case.name):
            causes = ", ".join(
                sorted({str(c.get("cause", "")) for c in verdict.causes.values() if isinstance(c, dict)})
            )
            row = promoted.get(verdict.id)
            became = (
                f"champion, generation {row.generation}"
                if row
                else ("refused" if verdict.decision == "refuse" else "not promoted")
            )
            rows.append(
                [
                    f"{verdict.data_time:%Y-%m-%d}",
                    causes,
                    verdict.model_digest[:12],
                    became,
                    brief(verdict.record["summary"]),
                ]
            )
        self.console.print(
            table("What was trained, and what came of it", ["data time", "cause", "model", "became", "why"], rows)
        )
        self.console.print(table("Where to look", ["what", "where"], self.links()))
        self.console.print(
            "Next: open the Airflow UI, look at a run's note and links; trigger `flight_delays.experiment` from its form;"
        )
        self.console.print("      `make status`, `make down`; docs/tutorial.md goes on from here.")

    def links(self) -> list[list[str]]:
        """Links to every UI."""
        from airworthy.platform.services import airflow_login

        user, password_file = airflow_login()
        settings = self.settings
        return [
            ["Airflow", f"{settings.airflow_url}  (user {user}, password in {password_file})"],
            ["MLflow", f"{settings.mlflow_url}/#/models/{settings.model_name(self.case.name)}"],
            ["Data Docs, verdicts, drift reports", settings.reports_url],
            ["Prediction API", f"{settings.service_url}/docs"],
            ["The story as JSON", str(self.story.path)],
        ]


def run(plan: Plan | None = None) -> int:
    """Play the story; returns the exit code."""
    console = Console()
    try:
        Demo(plan or default_plan(), console).run()
    except httpx.HTTPError as error:
        raise ServiceUnavailableError(
            f"a service did not answer: {error!r}", next_step="see `airworthy status` and `airworthy logs`"
        ) from error
    return 0
