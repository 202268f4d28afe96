"""A browser for the session, and a window for each test."""

from collections.abc import Iterator

import pytest
from selenium import webdriver

import chromium
from dashboard_page import Page


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    """A Chromium of a laptop's size."""
    with chromium.started() as browser:
        yield browser


@pytest.fixture
def page(browser: webdriver.Chrome) -> Iterator[Page]:
    """A window. After each test the browser must have had nothing to complain about."""
    page = Page(browser)
    browser.get("about:blank")
    page.complaints()
    yield page
    browser.get("about:blank")
