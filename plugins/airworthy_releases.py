"""What ``platform.release`` needs of Airflow: the watch on the git repository, which only wakes, and the question."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Asset, AssetWatcher, Param
from airflow.sdk.exceptions import AirflowSkipException

from airworthy_triggers import _Watch

if TYPE_CHECKING:
    from airflow.sdk import Context

APPROVAL = timedelta(days=1)


class RevisionWatcher(_Watch):
    """Wakes ``platform.release``: a watched branch's head is tested, and no run took it yet."""

    def __init__(self, use_case: str = "platform", poke_interval: float = 15.0) -> None:
        super().__init__(use_case, poke_interval)
        self._told = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return f"{__name__}.{type(self).__name__}", {"poke_interval": self.poke_interval}

    def work(self) -> list[str]:
        """``<target> <revision>`` of each of them; none, and the reason in the log once, where there is nothing to watch."""
        from airworthy.platform.revisions import absent, untaken

        why = absent()
        if why != self._told:
            self.log.warning("no revisions are watched: %s", why) if why else self.log.info("revisions are watched")
            self._told = why
        return [] if why else [f"{target} {revision}" for revision, target in untaken()]


def tested_revision() -> Asset:
    """Tested heads of ``develop`` and ``main``; the watcher wakes ``platform.release``."""
    return Asset(
        name="platform/tested-revision",
        uri="airworthy://repository/tested-revision",
        watchers=[AssetWatcher(name="revisions", trigger=RevisionWatcher())],
    )


class ReleaseApproval(ApprovalOperator):
    """Asks a person whether the platform is switched. No answer in time is a no.

    The answer is only handed on: the task after it writes it down, a no as well as a yes.
    """

    def __init__(self, **kwargs: Any) -> None:
        # Airflow gives every task its DAG's form; the question has its own.
        why = Param("", type="string", maxLength=500, title="Why", description="Kept with the answer")
        kwargs |= {"params": {"why": why}, "defaults": self.REJECT, "retries": 0, "response_timeout": APPROVAL}
        super().__init__(**kwargs)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """The answer. Airflow's own operator would skip what follows a no, and nobody would write it down."""
        return HITLOperator.execute_complete(self, context, event)


def take_revision(context: Any) -> object:
    """The revision of the form, or the next tested head; skipped when there is none."""
    from airworthy.platform import release_steps
    from airworthy_tasks import note, outcomes, report, run_name

    form = context["params"]
    with outcomes():
        taken = release_steps.take(run_name(), revision=form["revision"], target=form["target"])
    if taken is None:
        note("no tested revision waits")
        raise AirflowSkipException("no tested revision waits")
    return report(taken, f"revision {taken.revision[:12]} for {taken.target}")


def build_release(taken: Any) -> object:
    """The release of a taken revision."""
    from airworthy.platform import release_steps
    from airworthy_tasks import outcomes, report, run_name

    with outcomes():
        release = release_steps.build(run_name(), release_steps.Taken.model_validate(taken))
    return report(release, f"built release {release.digest[:12]} of revision {release.revision[:12]}")


def try_in_staging(release: Any) -> object:
    """What came of its staging run, with a line of words for the question that follows."""
    from airworthy.platform import release_steps
    from airworthy_tasks import outcomes, report, run_name

    with outcomes():
        staged = release_steps.stage(run_name(), release_steps.PipelineRelease.model_validate(release))
    words = release_steps.words(staged)
    return {"staged": report(staged, f"staging passed: {words}"), "words": words}


def switch_ended(generation: int) -> bool:
    """Whether the switch is done."""
    from airworthy.platform import release_steps
    from airworthy_tasks import outcomes, run_name

    with outcomes():
        return release_steps.ended(run_name(), generation)


def begin_switch(taken: Any, release: Any, answer: Any) -> int:
    """Write the answer down; after a yes ask for the switch, which a process outside of Airflow carries out."""
    from airworthy.platform import release_steps
    from airworthy_tasks import note, outcomes, run_name

    who = str((answer.get("responded_by_user") or {}).get("name") or "")
    with outcomes():
        generation = release_steps.settle(
            run_name(), release_steps.Taken.model_validate(taken), release_steps.PipelineRelease.model_validate(release),
            who=who, approved=answer["chosen_options"] == [ReleaseApproval.APPROVE],
            why=str((answer.get("params_input") or {}).get("why") or ""),
        )  # fmt: skip
    if generation is None:
        words = f"not switched: rejected by {who}" if who else "not switched: nobody approved it in time"
        note(words)
        raise AirflowSkipException(words)
    note(f"switch {generation}, approved by {who}, is carried out")
    return generation


def tell_outcome() -> None:
    """The run's note; red when a step before failed."""
    from airworthy.platform import release_steps
    from airworthy_tasks import fail_with, note, run_name

    state, reason = release_steps.finish(run_name())
    note(f"{state}: {reason}" if reason else state)
    for name in ("take", "build", "staging", "switch", "switched"):
        fail_with(name)
