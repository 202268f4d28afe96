"""The dashboard's page as a person meets it: what can be seen, read out, and done."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from fakes.dashboard_mesh import FakeMesh, served


class Page:
    """One browser window that shows the page."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    def open(self, address: str) -> None:
        """Loads the page and waits until it is drawn."""
        self.browser.get(address)
        self.wait(lambda: self.all(".node"), "the graph is drawn")

    @staticmethod
    def wait(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
        """The condition's value as soon as it is true. What is not drawn yet, or drawn anew, is looked for again."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(LookupError, ValueError, StaleElementReferenceException):
                if found := condition():
                    return found
            assert time.monotonic() < deadline, f"not within {seconds} seconds: {what}"
            time.sleep(0.05)

    def all(self, selector: str) -> list[WebElement]:
        """Every element that a CSS selector finds."""
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The one element of a selector."""
        (found,) = self.all(selector)
        return found

    def lock(self, edge: str) -> str:
        """The lock of an edge in the graph; LookupError if it is not drawn."""
        for label in self.all(".label"):
            if label.get_attribute("data-id") == edge:
                return str(label.get_attribute("class")).split()[1]
        raise LookupError(edge)

    def spoken(self) -> list[str]:
        """What a screen reader says of everything in the graph."""
        found = self.script("return [...document.querySelectorAll('.plane [data-id]')].map((e) => e.ariaLabel)")
        return [str(each) for each in found]

    def places(self) -> dict[str, str]:
        """Where each workload stands."""
        script = (
            "return [...document.querySelectorAll('.node')].map((e) => [e.dataset.id, e.getAttribute('transform')])"
        )
        return dict(self.script(script))

    def tab(self, name: str) -> None:
        """Goes to one of the views."""
        self.one(f"#tab-{name}").click()

    def press(self, *keys: str) -> None:
        """Types keys wherever the focus is."""
        for key in keys:
            webdriver.ActionChains(self.browser).send_keys(key).perform()

    @property
    def focused(self) -> WebElement:
        """What has the keyboard's focus."""
        return self.browser.switch_to.active_element

    def walk_to(self, selector: str, most: int = 40) -> WebElement:
        """Presses Tab until something that the selector finds has the focus."""
        for _ in range(most):
            self.press(Keys.TAB)
            if self.focused.id in {each.id for each in self.all(selector)}:
                return self.focused
        raise AssertionError(f"Tab does not lead to {selector}")

    def script(self, source: str, *arguments: Any) -> Any:
        """Runs a function body in the page."""
        return self.browser.execute_script(source, *arguments)

    def complaints(self) -> list[str]:
        """What the browser logged: errors of scripts, refusals by the page's policy."""
        return [entry["message"] for entry in self.browser.get_log("browser") if "favicon" not in entry["message"]]

    def metrics(self) -> dict[str, float]:
        """The browser's own counters for the page."""
        self.browser.execute_cdp_cmd("Performance.enable", {})
        found = self.browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return {each["name"]: each["value"] for each in found}


@contextlib.contextmanager
def running(mesh: FakeMesh, *, port: int = 0) -> Iterator[str]:
    """The page of this mesh, served by a thread of its own; its address."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    addresses: list[str] = []
    up = threading.Event()

    async def serve() -> None:
        async with served(mesh, port=port) as address:
            addresses.append(address)
            up.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert up.wait(10), "the page is not served"
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
