"""The story as an operator sees it in the Airflow UI, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from airworthy.config import get_settings
from airworthy.platform.airflow_api import AirflowApi

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]  # the story takes six minutes, and far more on a busy machine


def _shot(page, played, name: str) -> None:
    folder = Path(played.var) / "screenshots"
    folder.mkdir(exist_ok=True)
    page.screenshot(path=str(folder / f"{name}.png"))


def test_every_dag_is_listed_and_none_is_broken(page, played):
    page.goto(f"{get_settings().airflow_url}/dags")
    for family in ("ingest", "arrivals", "train", "deliver", "monitor", "rollback", "experiment"):
        page.get_by_text(f"flight_delays.{family}", exact=True).first.wait_for()
    _shot(page, played, "dags")
    assert page.get_by_text("Import Error").count() == 0


def test_a_trainings_note_says_what_came_of_it(page, played):
    run = AirflowApi().runs("flight_delays.train")[-1]
    page.goto(f"{get_settings().airflow_url}/dags/flight_delays.train/runs/{run['dag_run_id']}")
    page.get_by_text("judge", exact=True).first.wait_for()
    _shot(page, played, "train")
    assert "ROC AUC" in run["note"]


def test_the_tasks_links_lead_to_the_other_uis(page, played):
    run = next(r for r in AirflowApi().runs("flight_delays.train") if r["state"] == "success")
    page.goto(f"{get_settings().airflow_url}/dags/flight_delays.train/runs/{run['dag_run_id']}/tasks/judge/details")
    link = page.get_by_role("link", name="Verdict")
    link.first.wait_for()
    _shot(page, played, "judge")
    page.goto(link.first.get_attribute("href"))
    page.get_by_text("ROC AUC").first.wait_for()
    _shot(page, played, "verdict")


def test_the_rollback_form_asks_for_a_reason(page, played):
    page.goto(f"{get_settings().airflow_url}/dags/flight_delays.rollback")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_text("The reason, for the promotion log").first.wait_for()
    _shot(page, played, "rollback-form")


def test_the_documentation_of_the_prediction_api_loads_nothing_from_elsewhere(page, played):
    asked: list[str] = []
    tab = page.context.browser.new_page()
    tab.on("request", lambda request: asked.append(request.url))
    service = get_settings().service_url
    tab.goto(f"{service}/docs")
    tab.get_by_text("/predict", exact=True).first.wait_for()
    _shot(tab, played, "api-docs")
    tab.close()
    assert [url for url in asked if not url.startswith((service, "data:"))] == []
