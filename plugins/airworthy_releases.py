"""What ``platform.release`` needs of Airflow: the watch on the git repository. It only wakes; the ledger decides."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, AssetWatcher
from airflow.sdk.exceptions import AirflowSkipException

from airworthy_triggers import _Watch


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
    """Ask for the switch in the name of who approved it; a process outside of Airflow carries it out."""
    from airworthy.platform import release_steps
    from airworthy_tasks import note, outcomes, run_name

    who = str((answer.get("responded_by_user") or {}).get("name") or "airflow")
    with outcomes():
        generation = release_steps.begin(
            run_name(), release_steps.Taken.model_validate(taken), release_steps.PipelineRelease.model_validate(release),
            who=who,
        )  # fmt: skip
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
