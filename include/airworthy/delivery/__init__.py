"""From a challenger to the champion that answers, and back: staging check, promotion, switch, rollback."""

from airworthy.delivery.deliver import deliver
from airworthy.delivery.rollback import Candidate, RollbackOutcome, candidates, rollback

__all__ = ["Candidate", "RollbackOutcome", "candidates", "deliver", "rollback"]
