"""Telling Airflow, from a shell, that a challenger waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airworthy.errors import AirworthyError

if TYPE_CHECKING:
    from airworthy.config import UseCase


def wake_delivery(use_case: UseCase) -> str:
    """Wake ``.deliver``. Returns what came of it, in words: what the command did stands, whether Airflow hears or not."""
    from airworthy.platform.airflow_api import AirflowApi

    name = use_case.name
    try:
        AirflowApi(patience_s=0).send_event(f"{name}/challenger")
    except AirworthyError as error:
        return f"Airflow was not told: {error.what}\nNext: trigger {name}.deliver, or `airworthy deliver {name}`"
    return f"{name}.deliver was woken"
