"""Takes the pictures of docs/dashboard.md from a dashboard that runs, in light and dark, with the details of one edge.

.venv/bin/python tools/dashboard_pictures.py ADDRESS "shop/cart → payments/payment-api"
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import chromium  # noqa: E402
from dashboard_page import Page  # noqa: E402

IMAGES = ROOT / "docs/images"
WINDOW_SECONDS = 65


def main(address: str, edge: str) -> None:
    """Writes dashboard.png and dashboard-details.png once a window of rates is known."""
    IMAGES.mkdir(exist_ok=True)
    with chromium.started() as light, chromium.started(dark=True) as dark:
        pages = {"dashboard": Page(light), "dashboard-details": Page(dark)}
        for page in pages.values():
            page.open(address)
        time.sleep(WINDOW_SECONDS)
        (label,) = [each for each in pages["dashboard-details"].all(".label") if each.get_attribute("data-id") == edge]
        label.click()
        time.sleep(1)
        for name, page in pages.items():
            (IMAGES / f"{name}.png").write_bytes(page.browser.get_screenshot_as_png())


if __name__ == "__main__":
    main(*sys.argv[1:])
