"""From a challenger to the champion that answers, and back: staging check, approval, trial, promotion, watch, rollback."""

from airworthy.delivery.choices import Candidate, candidates, offer
from airworthy.delivery.deliver import again, deliver, promote, question, settle, stage, try_out, waiting, watch
from airworthy.delivery.rehearsal import overdue_rehearsal, rehearse_rollback
from airworthy.delivery.rollback import RollbackOutcome, rollback

__all__ = [
    "Candidate",
    "RollbackOutcome",
    "again",
    "candidates",
    "deliver",
    "offer",
    "overdue_rehearsal",
    "promote",
    "question",
    "rehearse_rollback",
    "rollback",
    "settle",
    "stage",
    "try_out",
    "waiting",
    "watch",
]
