"""How long the dashboard's page takes with a state of 500 workloads and 1,000 edges, in a real Chromium.

Prints one table: `python bench/dashboard_page.py [--workloads 500] [--edges 1000] [--picture FILE]`.
"""

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

from mutua.reports.table import render

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:0] = [str(TESTS)]

import chromium  # noqa: E402 - from the tests' folder
from dashboard_page import Page, running  # noqa: E402
from fakes.dashboard_mesh import FakeMesh, edge, namespace, objects, pod  # noqa: E402

HOMES = 10
STATES = 40
WATCH = """
window.paints = [];
const hear = EventSource.prototype.addEventListener;
EventSource.prototype.addEventListener = function (kind, does) {
  if (kind !== "moment") return hear.call(this, kind, does);
  return hear.call(this, kind, (event) => {
    const began = performance.now();
    does(event);
    // What a frame's callback starts runs after that frame is painted.
    requestAnimationFrame(() => setTimeout(() => window.paints.push(performance.now() - began), 0));
  });
};
window.frames_seen = [];
let last = performance.now();
const frame = (now) => { window.frames_seen.push(now - last); last = now; requestAnimationFrame(frame); };
requestAnimationFrame(frame);
"""
ZOOM = """
const done = arguments[0], target = document.querySelector(".frame");
window.frames_seen.length = 0;
let left = 120;
const step = () => {
  const deltaY = left % 2 ? 20 : -20;
  const turn = { deltaY, clientX: 600, clientY: 400, bubbles: true, cancelable: true };
  target.dispatchEvent(new WheelEvent("wheel", turn));
  if (--left) requestAnimationFrame(step);
  else done(window.frames_seen);
};
requestAnimationFrame(step);
"""


def main() -> None:
    """Measures in a browser without a screen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=int, default=500)
    parser.add_argument("--edges", type=int, default=1000)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    mesh = crowd(options.workloads, options.edges)
    with running(mesh) as address, chromium.started() as browser:
        page = Page(browser)
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        began = time.monotonic()
        page.open(address)
        rows = [("opened and drawn, with the browser's driver", f"{time.monotonic() - began:.2f} s")]
        page.wait(lambda: page.script("return window.paints.length") >= STATES, "states are painted", 120)
        paints = page.script("return window.paints")[1:]
        rows += spread("from event to painted", paints)
        if options.picture:
            browser.save_screenshot(str(options.picture))
        next(each for each in page.all(".now button") if each.text == "Pause").click()
        rows += spread("frame while it is zoomed", browser.execute_async_script(ZOOM)[1:])
        rows.append(("elements", f"{page.metrics()['Nodes']:.0f}"))
        rows.append(("workloads, edges drawn", f"{len(page.all('.node'))}, {len(page.all('.label'))}"))
    print(render(("WHAT", "MEASURED"), rows), end="")


def crowd(workloads: int, edges: int) -> FakeMesh:
    """Workloads in ten namespaces, whose counters all grow from state to state."""
    chance = random.Random(500)  # noqa: S311 - the same picture each time
    names = [f"team-{number % HOMES}/app-{number // HOMES:02}" for number in range(workloads)]
    documents = [namespace(f"team-{number}") for number in range(HOMES)]
    documents += [pod(*name.split("/"), f"10.{number // 250}.{number % 250}.1") for number, name in enumerate(names)]
    calls: set[tuple[str, str]] = set()
    while len(calls) < edges:
        client, server = chance.choice(names), chance.choice(names)
        if client != server:
            calls.add((client, server))
    mesh = FakeMesh(objects(*documents))
    mesh.edges = lambda seconds: [
        edge(client, server, int(seconds * (1 + number % 7)), int(seconds) * (number % 9 == 0))
        for number, (client, server) in enumerate(sorted(calls))
    ]
    return mesh


def spread(what: str, milliseconds: list[float]) -> list[tuple[str, str]]:
    """Median and the slowest of a hundred."""
    ordered = sorted(milliseconds)
    return [
        (f"{what}: median", f"{statistics.median(ordered):.0f} ms"),
        (f"{what}: p95", f"{ordered[int(len(ordered) * 0.95)]:.0f} ms"),
    ]


if __name__ == "__main__":
    main()
