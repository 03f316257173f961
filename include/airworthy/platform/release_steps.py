"""The steps of ``platform.release``: from a tested revision to the release that runs. Each is safe to do again."""

from __future__ import annotations

from collections.abc import Callable

from airworthy.errors import ConfigurationError, ReleaseError
from airworthy.ledger import audit
from airworthy.ledger import pipeline_releases as ledger
from airworthy.platform import releasing, revisions, switching
from airworthy.platform.releasing import PipelineRelease
from airworthy.platform.staging_run import Staged
from airworthy.records import Record

Say = Callable[[str], None]


class Taken(Record):
    """A revision on its way.

    Attributes:
        target: ``staging``, or ``production``, which goes on to approval and switch.
        present: Digest of the release that ran when it was taken: what the switch is decided against.
    """

    revision: str
    target: str
    present: str | None


def take(run: str, *, revision: str = "", target: str = "") -> Taken | None:
    """Take a revision: the given one, or the first tested head that no run took; None when there is none.

    Raises:
        UntestedError: nothing vouches for the given revision.
        ConfigurationError: there is no repository to look into.
    """
    known = [r for r in ledger.requests() if r.run == run]
    if known:  # a retry
        revision, target = known[0].revision, known[0].target
    elif revision:
        revisions.attestation(revisions.fetch(), revision)
    else:
        if why := revisions.absent():
            raise ConfigurationError(why, next_step="set AIRWORTHY_PIPELINE_REPOSITORY, or leave this DAG alone")
        waiting = revisions.untaken()
        if not waiting:
            return None
        revision, target = waiting[0]
    row = ledger.take(revision, target or ledger.STAGING, run)
    return Taken(revision=row.revision, target=row.target, present=ledger.current())


def build(run: str, taken: Taken, *, say: Say = print) -> PipelineRelease:
    """The release of the taken revision."""
    release = releasing.build(taken.revision, say=say)
    ledger.note(run, "built", digest=release.digest)
    return release


def stage(run: str, release: PipelineRelease, *, say: Say = print) -> Staged:
    """Its staging run."""
    staged = releasing.try_in_staging(release, say=say)
    ledger.note(run, "staged", reason=words(staged))
    return staged


def words(staged: Staged) -> str:
    """A staging run in a line."""
    return "; ".join(
        f"{name}: {c.intervals} intervals, {c.train_rows} + {c.holdout_rows} rows, ROC AUC {c.metrics['roc_auc'].value:.3f}, "
        f"gate: {c.decision}, {c.served['requests']:.0f} answers"
        for name, c in staged.cases.items()
    )


def settle(run: str, taken: Taken, release: PipelineRelease, *, who: str, approved: bool, why: str = "") -> int | None:
    """Write the answer to the approval down; after a yes ask for the switch, and have it carried out apart from this process.

    Args:
        run: The run that asked.
        taken: The revision, with what ran when it was taken.
        release: The release of it.
        who: The person who answered; empty when nobody did, which is a no.
        approved: The answer.
        why: The reason that was given.

    Returns:
        The switch's generation; None after a no.

    Raises:
        StaleVerdictError: another release runs now than when the revision was taken.
        ReleaseError: the release was altered, or never passed a staging run.
    """
    if not (approved and who):
        words = f"by {who}{': ' + why if why else ''}" if who else "nobody approved it in time"
        ledger.reject(run, release.digest, who=who, why=why, reason=words)
        return None
    order = f"{run}: revision {release.revision[:12]}{': ' + why if why else ''}"
    mine = [s for s in ledger.switches() if s.why == order]
    if mine:  # a retry
        generation = mine[-1].generation
    else:
        generation = switching.ask(release, who=who, why=order, expected=taken.present)
        audit.record_action(
            who, "approve pipeline release", audit.PLATFORM, release.digest, order, "airflow", "asked for"
        )
    if not switching.is_going_on():
        switching.start_detached()
    return generation


def ended(run: str, generation: int) -> bool:
    """Whether a switch has ended well; one whose process was killed is taken up again.

    Raises:
        ReleaseError: it ended otherwise.
    """
    row = ledger.find_switch(generation)
    if row is None:
        raise ConfigurationError(f"there is no switch {generation}", next_step="see `airworthy release list`")
    if row.state == ledger.ASKED:
        if not switching.is_going_on():
            switching.start_detached()
        return False
    if row.state != ledger.SWITCHED:
        ledger.note(run, row.state, reason=row.reason)
        raise ReleaseError(
            f"the pipeline's release was not switched: {row.reason}",
            next_step="mend the revision; what ran before runs on",
        )
    ledger.note(run, "released", reason=row.reason)
    return True


def finish(run: str) -> tuple[str, str]:
    """The last word on a revision: a run that ends anywhere else refused it. Returns state and reason."""
    mine = [r for r in ledger.requests() if r.run == run]
    if not mine:
        return "nothing", "no tested revision waits"
    row = mine[0]
    if row.state in (ledger.FELL_BACK, ledger.REFUSED, "released") or (row.state, row.target) == (
        "staged",
        ledger.STAGING,
    ):
        return row.state, row.reason
    state = {"taken": "not built", "built": "failed in staging", "staged": "not approved"}.get(row.state, row.state)
    ledger.note(run, state, reason=row.reason)
    return state, row.reason
