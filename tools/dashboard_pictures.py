"""Takes a picture for docs/dashboard.md from a dashboard that runs, once a whole window of rates is known.

.venv/bin/python tools/dashboard_pictures.py ADDRESS dashboard
.venv/bin/python tools/dashboard_pictures.py ADDRESS dashboard-details --dark --edge "shop/cart → payments/payment-api"
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import chromium  # noqa: E402
from dashboard_page import Page  # noqa: E402

IMAGES = ROOT / "docs/images"
WINDOW_SECONDS = 65


def main() -> None:
    """Writes docs/images/NAME.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("name")
    parser.add_argument("--edge", default="")
    parser.add_argument("--dark", action="store_true")
    wanted = parser.parse_args()
    with chromium.started(dark=wanted.dark) as browser:
        page = Page(browser)
        page.open(wanted.address)
        time.sleep(WINDOW_SECONDS)
        for label in page.all(".label"):
            if label.get_attribute("data-id") == wanted.edge:
                label.click()
                time.sleep(1)
        IMAGES.mkdir(exist_ok=True)
        (IMAGES / f"{wanted.name}.png").write_bytes(browser.get_screenshot_as_png())


if __name__ == "__main__":
    main()
