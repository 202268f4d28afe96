"""A real Chromium, driven by Selenium: the machine's own, else Debian's packages."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PACKAGES = ("chromium", "chromium-driver", "fonts-inter")
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
)
LAPTOP = (1366, 768)
PROJECTOR = (1920, 1080)


def find() -> tuple[Path, Path]:
    """The browser and its driver, installed on first use where the machine has none.

    Raises RuntimeError, with what to do, if that does not work.
    """
    found = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(found):
        if os.geteuid() != 0:
            raise RuntimeError(f"no Chromium here: apt-get install {' '.join(PACKAGES)}")
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", *words], check=True, capture_output=True, timeout=500)
        found = [shutil.which(name) for name in ("chromium", "chromedriver")]
    browser, driver = found
    if browser is None or driver is None:
        raise RuntimeError(f"Debian's packages {' '.join(PACKAGES)} brought no chromium and chromedriver")
    return Path(browser), Path(driver)


@contextlib.contextmanager
def started(size: tuple[int, int] = LAPTOP, *, dark: bool = False) -> Iterator[webdriver.Chrome]:
    """A window of that size, in pixels."""
    binary, driver = find()
    options = webdriver.ChromeOptions()
    options.binary_location = str(binary)
    for switch in SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(str(driver)))
    try:
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.set_script_timeout(60)
        yield browser
    finally:
        browser.quit()
