"""Headless Chromium from the system, logged in to the Airflow of the story that the end-to-end tests played."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from played_story import Played

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def page(played: Played) -> Iterator[Page]:
    """A page in a browser whose clock is New York's, logged in as the administrator."""
    if CHROMIUM is None:
        why = "Chromium is not installed; get it with: apt-get install chromium"
        if os.environ.get("AIRWORTHY_TESTS_COMPLETE"):
            pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    from airworthy.config import get_settings
    from airworthy.platform.credentials import passwords

    settings = get_settings()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(timezone_id="America/New_York", viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(45_000)
        page.goto(f"{settings.airflow_url}/auth/login")
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", passwords(settings)["admin"])
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/auth/login" not in url)
        yield page
        browser.close()
