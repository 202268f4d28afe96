"""The dashboard over a live cluster: its numbers are those that were sent, and its locks close when plaintext ends."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from journey_shell import Journey

import chromium
from dashboard_page import Page

pytestmark = pytest.mark.cluster

NAMESPACE = "seen"
WINDOW_SECONDS = 15
LEGACY = "seen/legacy → seen/backend"
FRONTEND = "seen/frontend → seen/backend"


def deployment(name: str, image: str, command: str = "", annotations: str = "{}") -> str:
    """A Deployment with an account of its own, and its Service."""
    line = f", command: {command}" if command else ""
    return f"""
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: {NAMESPACE}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}, annotations: {annotations}}}
    spec:
      serviceAccountName: {name}
      terminationGracePeriodSeconds: 0
      containers: [{{name: {name}, image: {image}{line}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80}}]}}
---
"""


@pytest.fixture(scope="module")
def shown(journey: Journey) -> Iterator[Journey]:
    """A namespace with a server, a client with a sidecar and one without."""
    journey.must("create", "namespace", NAMESPACE)
    journey.must("label", "namespace", NAMESPACE, "istio-injection=enabled")
    idle = '[sh, -c, "sleep infinity"]'
    journey.must(
        "apply",
        "-f",
        "-",
        stdin=deployment("backend", "nginx")
        + deployment("frontend", "curlimages/curl", idle)
        + deployment("legacy", "curlimages/curl", idle, '{sidecar.istio.io/inject: "false"}'),
    )
    for name in ("backend", "frontend", "legacy"):
        journey.must("rollout", "status", f"deployment/{name}", "-n", NAMESPACE, "--timeout=60s")
    yield journey
    journey.must("delete", "namespace", NAMESPACE)


@pytest.fixture(scope="module")
def page(shown: Journey) -> Iterator[Page]:
    """The page in a Chromium of a laptop's size."""
    words = [str(shown.command), "dashboard", "--no-browser", "--window", f"{WINDOW_SECONDS}s"]
    with subprocess.Popen(words, env=shown.environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert re.fullmatch(r"http://localhost:\d+/[\w-]{22}/", address), address
            with chromium.started() as browser:
                page = Page(browser)
                page.open(address)
                yield page
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0


def send(journey: Journey, client: str, requests: int) -> None:
    """That many requests to the server, each on its own connection; all are answered."""
    loop = f"for i in $(seq {requests}); do curl -sf -o /dev/null http://backend || exit 1; done"
    journey.must("exec", f"deploy/{client}", "-n", NAMESPACE, "-c", client, "--", "sh", "-c", loop)


def drawn(page: Page) -> set[str]:
    """The edges of this namespace: other tests' are on the page too."""
    edges = {str(each.get_attribute("data-id")) for each in page.all(".label")}
    return {each for each in edges if f"{NAMESPACE}/" in each}


def totals(page: Page, edge: str) -> dict[str, int]:
    """What the details of an edge say was counted."""
    (label,) = [each for each in page.all(".label") if each.get_attribute("data-id") == edge]
    page.script(
        "if (arguments[0].ariaPressed !== 'true') arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))",
        label,
    )
    page.wait(lambda: page.all(".details [data-total]"), "the details are shown")
    return {
        str(each.get_attribute("data-total")): int(each.text.replace(",", ""))
        for each in page.all(".details [data-total]")
    }


def test_the_page_counts_what_was_sent_and_says_how_it_was_protected(shown: Journey, page: Page) -> None:
    send(shown, "frontend", 50)
    send(shown, "legacy", 20)

    page.wait(lambda: drawn(page) == {FRONTEND, LEGACY}, "both edges are drawn, and no others")
    page.wait(lambda: totals(page, FRONTEND)["mutual_tls"] >= 50, "the frontend's requests are counted")
    page.wait(lambda: totals(page, LEGACY)["plaintext"] >= 20, "the other's requests are counted")

    assert totals(page, FRONTEND) == {"mutual_tls": 50, "plaintext": 0, "errors": 0, "denied": 0, "refused": 0}
    assert totals(page, LEGACY) == {"mutual_tls": 0, "plaintext": 20, "errors": 0, "denied": 0, "refused": 0}
    assert page.lock(FRONTEND) == "closed"
    assert page.lock(LEGACY) == "open"
    text = page.one(".details").text
    assert "the client has no sidecar" in text
    assert f"spiffe://cluster.local/ns/{NAMESPACE}/sa/backend" in text
    assert re.search(r"next rotation\s+in \d+ h", text), text
    assert page.complaints() == []


def test_the_lock_closes_once_the_client_has_a_sidecar_and_a_window_has_passed(shown: Journey, page: Page) -> None:
    send(shown, "legacy", 5)
    page.wait(lambda: page.lock(LEGACY) == "open", "the lock is open")
    patch = {"spec": {"template": {"metadata": {"annotations": {"sidecar.istio.io/inject": "true"}}}}}
    shown.must("patch", "deployment", "legacy", "-n", NAMESPACE, "-p", json.dumps(patch))
    shown.must("rollout", "status", "deployment/legacy", "-n", NAMESPACE, "--timeout=60s")
    locks = []

    def closed() -> bool:
        send(shown, "legacy", 2)
        locks.append(page.lock(LEGACY))
        return locks[-1] == "closed"

    page.wait(closed, "the lock closes", seconds=90)

    assert set(locks) <= {"open", "part", "closed", "quiet"}
    page.wait(lambda: page.one(".answer").text.startswith("Everything seen"), "nothing is plaintext any more")


def test_without_the_control_plane_what_is_shown_is_said_to_be_old(shown: Journey, page: Page) -> None:
    shown.must("scale", "deployment/istiod", "-n", "istio-system", "--replicas=0")
    try:
        banner = page.wait(lambda: page.all("[role=alert]"), "the banner", seconds=60)[0].text
        assert "no control plane runs in namespace istio-system" in banner
        assert page.all(".graph.stale")
        assert len(page.all(".node")) >= 3
    finally:
        shown.must("scale", "deployment/istiod", "-n", "istio-system", "--replicas=1")
        shown.must("rollout", "status", "deployment/istiod", "-n", "istio-system", "--timeout=90s")
    page.wait(lambda: not page.all("[role=alert]"), "the page is live again", seconds=90)
    assert page.one(".as-of").text.startswith("Live")


def test_the_browser_is_given_a_file_and_not_the_word(shown: Journey, tmp_path: Path) -> None:
    """The arguments of a program are seen by everybody on a machine."""
    told = tmp_path / "told"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf "%s" "$1" > {told}.new\nmv {told}.new {told}\n')
    browser.chmod(0o755)
    environment = shown.environment | {"BROWSER": str(browser)}
    words = [str(shown.command), "dashboard", "kiali"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        Page.wait(told.exists, "the browser was called")
        door = Path(told.read_text().removeprefix("file://"))
        content, mode = door.read_text(), door.parent.stat().st_mode
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0

    assert address not in told.read_text()
    assert address in content
    assert mode & 0o077 == 0
    assert not door.exists()
