"""Optuna's studies: each search's trials, kept in a schema of their own in the ledger's database.

Optuna keeps the books (parameters, values, states, times; its dashboard and plots read them); what is tried is drawn
beforehand (``search_plan``), so that no sampler's state has to survive a kill.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url, text

from airworthy.config import get_settings
from airworthy.ledger.database import engine, exclusive

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

SCHEMA = "optuna"
INDEX, SECONDS, REFUSED, LOST, PARAMETERS = "index", "seconds", "refused", "lost", "parameters"


def migrate() -> None:
    """Make the schema and Optuna's tables in it, or bring them to this version; safe to call by several at once."""
    with exclusive("migrate", SCHEMA):
        with engine().begin() as connection:
            connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{SCHEMA}"'))
        storage = _storage(get_settings().ledger_dsn, create=True)
        storage.upgrade()
        storage.remove_session()
        storage.engine.dispose()


def open_storage() -> RDBStorage:
    """Optuna's storage of this process."""
    return _opened(get_settings().ledger_dsn, os.getpid())


@lru_cache(maxsize=2)
def _opened(dsn: str, pid: int) -> RDBStorage:
    # One a process: Airflow's tasks are forks, and connections do not survive a fork.
    return _storage(dsn, create=False)


def _storage(dsn: str, *, create: bool) -> RDBStorage:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # In the URL, since Optuna's migrations are given nothing else: elsewhere they would find the ledger's versions.
    url = make_url(dsn)
    given = url.query.get("options", "")
    options = f"{given if isinstance(given, str) else ' '.join(given)} -csearch_path={SCHEMA} -ctimezone=UTC".strip()
    here = url.update_query_dict({"options": options}).render_as_string(hide_password=False)
    return optuna.storages.RDBStorage(
        here, engine_kwargs={"pool_pre_ping": True}, skip_table_creation=not create, skip_compatibility_check=create
    )


class Study:
    """The trials of one search.

    Args:
        name: Of the study, which is there.
    """

    def __init__(self, name: str) -> None:
        import optuna

        self.name = name
        self._storage = open_storage()
        self._study = optuna.load_study(study_name=name, storage=self._storage)

    @classmethod
    def of(cls, name: str, *, maximise: bool, facts: dict[str, Any]) -> Study:
        """The study of a name, made when it is not there.

        Args:
            name: Its name.
            maximise: Whether larger values are better.
            facts: Kept with a new study.
        """
        import optuna

        direction = optuna.study.StudyDirection.MAXIMIZE if maximise else optuna.study.StudyDirection.MINIMIZE
        made = optuna.create_study(study_name=name, storage=open_storage(), load_if_exists=True, direction=direction)
        for key in sorted(set(facts) - set(made.user_attrs)):
            made.set_user_attr(key, facts[key])
        return cls(name)

    def trials(self) -> list[FrozenTrial]:
        """Every trial, oldest first, those that were lost included."""
        return self._study.get_trials(deepcopy=False)

    def decided(self) -> dict[int, FrozenTrial]:
        """The trials that came to an end of their own (a value, or a refusal), by their place in the plan."""
        found: dict[int, FrozenTrial] = {}
        for trial in self.trials():
            if trial.state.is_finished() and LOST not in trial.user_attrs:
                found.setdefault(int(trial.user_attrs[INDEX]), trial)
        return found

    def lose(self, indices: set[int]) -> int:
        """End the trials of these places that somebody began and did not end; returns how many."""
        from optuna.trial import TrialState

        begun = [t for t in self.trials() if t.state == TrialState.RUNNING and t.user_attrs.get(INDEX) in indices]
        for trial in begun:
            self._storage.set_trial_user_attr(trial._trial_id, LOST, "its process ended before it did")
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return len(begun)

    def begin(self, index: int, params: dict[str, Any], distributions: dict[str, Any], words: str) -> int:
        """Begin the trial of one place; returns its id."""
        import optuna

        template = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, params=params, distributions=distributions,
            user_attrs={INDEX: index, PARAMETERS: words},
        )  # fmt: skip
        return self._storage.create_new_trial(self._storage.get_study_id_from_name(self.name), template)

    def end(self, trial: int, value: float | None, seconds: float, refused: str = "") -> None:
        """End a trial with its value, or with the reason why it has none."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            self._storage.set_trial_user_attr(trial, SECONDS, round(seconds, 3))
            if refused:
                self._storage.set_trial_user_attr(trial, REFUSED, refused)
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            self._storage.set_trial_state_values(trial, state, None if value is None else [value])
        except UpdateFinishedTrialError:
            # Somebody took us for dead and did it again: the same arguments on the same rows give the same value.
            return
