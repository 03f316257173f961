"""Who may do what in Airflow: four roles on top of Airflow's simple auth manager.

Each role may do what the ones before it may:

``viewer``    looks: DAGs, runs, logs, notes, reports. No connection, no variable.
``operator``  runs things: triggers, backfills, clears, pauses a DAG; rolls back; pulls the kill switch. These are safe, or the
              way back.
``approver``  decides what reaches clients: answers approvals, changes runs of the DAGs that ask for them, releases quarantine,
              ends a pause.
``admin``     everything: connections, variables, pools, values of XComs, deleting of what was recorded.

The table is ``docs/reference/access.md``; the rules are ``allowed``, on nothing but names, so that another auth manager can be
set up to the same table. This file is found by the PYTHONPATH of every part of Airflow, as ``airflow_local_settings.py`` is.
"""

from __future__ import annotations

import logging
from enum import IntEnum
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.common.types import MenuItem
from airflow.configuration import conf

log = logging.getLogger(__name__)


class Role(IntEnum):
    """The roles, each with the rights of those below it."""

    VIEWER = 0
    OPERATOR = 1
    APPROVER = 2
    ADMIN = 3


# Forms that only an approver may send off: they let in what was refused, or end a pause.
APPROVERS_FORMS = ("quarantine", "resume")
# DAGs that ask for approval: who could mark their tasks as done could also answer in the approver's place.
ASKING = ("deliver", "release")
ADMINS_PAGES = {MenuItem.CONFIG, MenuItem.CONNECTIONS, MenuItem.VARIABLES}
RUNS = (DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE)


def needed(method: str, dag_id: str | None, entity: DagAccessEntity | None) -> Role:
    """The least role for something about a DAG.

    Args:
        method: ``GET | POST | PUT | DELETE``; ``MENU`` counts as looking.
        dag_id: The DAG; None when a request names none, or several.
        entity: What of it; None for the DAG itself.
    """
    family = (dag_id or "").rpartition(".")[2]
    if method in ("GET", "MENU"):
        return Role.VIEWER
    if method == "DELETE" or entity is DagAccessEntity.XCOM:
        return Role.ADMIN  # what happened stays on file; a value between two tasks decides what the second one does
    if entity is DagAccessEntity.HITL_DETAIL:
        return Role.APPROVER
    if entity in RUNS and (dag_id is None or family in APPROVERS_FORMS):
        return Role.APPROVER
    if entity in RUNS and family in ASKING and method != "POST":
        return Role.APPROVER
    return Role.OPERATOR


class AirworthyAuthManager(SimpleAuthManager):
    """Airflow's simple auth manager (users in the configuration, passwords in a file) with the roles of this platform."""

    def init(self) -> None:
        """Refuse what would let everybody in, and roles that there are not."""
        if conf.getboolean("core", "simple_auth_manager_all_admins"):
            raise ValueError(
                "[core] simple_auth_manager_all_admins would make everybody admin without a password: unset it"
            )
        roles = {user.username: user.role for user in self.get_users()}
        unknown = sorted(f"{name}:{role}" for name, role in roles.items() if _role(role) is None)
        if unknown or not roles:
            raise ValueError(
                f"[core] simple_auth_manager_users: no such role in {', '.join(unknown) or 'an empty list'}; "
                f"roles are {', '.join(role.name.lower() for role in Role)}"
            )
        super().init()

    @staticmethod
    def _print_output(output: str) -> None:
        # Airflow would print a password that it has just made: logs are read by more people than the file.
        log.warning("a password was generated, see %s", SimpleAuthManager.get_generated_password_file())

    def deserialize_user(self, token: dict[str, Any]) -> SimpleAuthManagerUser:
        """The user of a token, with the role that the configuration gives now: a role that was taken away is gone."""
        for user in self.get_users():
            if user.username == token["sub"]:
                return user
        raise ValueError("no such user any more")

    def is_authorized_dag(
        self, *, method: str, user: SimpleAuthManagerUser, access_entity: Any = None, details: Any = None
    ) -> bool:
        """By ``needed``."""
        return self._has(user, needed(method, details.id if details else None, access_entity))

    def is_authorized_connection(self, *, method: str, user: SimpleAuthManagerUser, details: Any = None) -> bool:
        """Admins only: to look, too."""
        return self._has(user, Role.ADMIN)

    def is_authorized_variable(self, *, method: str, user: SimpleAuthManagerUser, details: Any = None) -> bool:
        """Admins only: to look, too."""
        return self._has(user, Role.ADMIN)

    def is_authorized_configuration(self, *, method: str, user: SimpleAuthManagerUser, details: Any = None) -> bool:
        """Admins only (and Airflow shows it to nobody unless ``[api] expose_config`` is set)."""
        return self._has(user, Role.ADMIN)

    def is_authorized_pool(self, *, method: str, user: SimpleAuthManagerUser, details: Any = None) -> bool:
        """Admins change them."""
        return self._has(user, Role.VIEWER if method == "GET" else Role.ADMIN)

    def is_authorized_asset(self, *, method: str, user: SimpleAuthManagerUser, details: Any = None) -> bool:
        """Admins change them: an event wakes DAGs."""
        return self._has(user, Role.VIEWER if method == "GET" else Role.ADMIN)

    def is_authorized_asset_alias(self, *, method: str, user: SimpleAuthManagerUser, details: Any = None) -> bool:
        """As for assets."""
        return self._has(user, Role.VIEWER if method == "GET" else Role.ADMIN)

    def is_authorized_view(self, *, access_view: Any, user: SimpleAuthManagerUser) -> bool:
        """Everybody with a role looks."""
        return self._has(user, Role.VIEWER)

    def is_authorized_custom_view(self, *, method: str, resource_name: str, user: SimpleAuthManagerUser) -> bool:
        """Everybody with a role looks; nothing of ours changes anything by such a page."""
        return self._has(user, Role.VIEWER if method in ("GET", "MENU") else Role.ADMIN)

    def filter_authorized_menu_items(
        self, menu_items: list[MenuItem], *, user: SimpleAuthManagerUser
    ) -> list[MenuItem]:
        """What is for admins alone is not shown to others."""
        hidden = set() if self._has(user, Role.ADMIN) else ADMINS_PAGES
        return [item for item in menu_items if item not in hidden]

    def is_authorized_hitl_task(self, *, assigned_users: set[str], user: SimpleAuthManagerUser) -> bool:
        """An approver, and one of those named where some are named."""
        return self._has(user, Role.APPROVER) and super().is_authorized_hitl_task(
            assigned_users=assigned_users, user=user
        )

    def is_authorized_team(self, *, method: str, user: SimpleAuthManagerUser, details: Any = None) -> bool:
        """There are no teams here."""
        return self._has(user, Role.ADMIN)

    @staticmethod
    def _has(user: SimpleAuthManagerUser, least: Role) -> bool:
        role = _role(user.role)
        return role is not None and role >= least

    @staticmethod
    def _is_admin(user: SimpleAuthManagerUser) -> bool:
        return AirworthyAuthManager._has(user, Role.ADMIN)


def _role(name: str | None) -> Role | None:
    return Role.__members__.get((name or "").upper())
