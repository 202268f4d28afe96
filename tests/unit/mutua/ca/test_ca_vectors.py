"""No case of Istio's is left out in silence, and what the page says about differences and attacks is so."""

import json
import re
from pathlib import Path

import pytest

from fakes.certificates import VECTORS

TESTS = Path(__file__).parents[3]
PAGE = TESTS.parent / "docs" / "certificates.md"

DIFFERENT = {
    "node-authorization": "node proxies ask for other workloads",
    "xfcc": "X-Forwarded-Client-Cert from loopback",
    "xfcc-trusted-address": "`TRUSTED_GATEWAY_CIDR` authenticates",
    "kube-jwt": "remote clusters' tokens by `clusterid`",
    "sign-csr": "CSRs for an authority (`ForCA`)",
    "create-certificate": "any URI in a client certificate is an identity",
    "root-bundle-update-allowed": "a new `root-cert.pem` is ignored unless",
    "rotate-delay": "renewal at 50 % of the life",
    "wait-time": "`tls.crt` of an expired authority",
}
"""Kinds with rows whose answer is another one here on purpose, and how the table of differences names it."""


@pytest.mark.skipif(not VECTORS.exists(), reason="conformance vectors not present")
def test_every_kind_is_run() -> None:
    """By a test that takes all of its rows: there is no way to take some of them only."""
    kinds = {json.loads(line)["kind"] for line in VECTORS.read_text().splitlines()}
    run: set[str] = set()
    for file in TESTS.rglob("test_*.py"):
        text = file.read_text()
        for names in re.findall(r'parametrize\("row", vectors\(([^)]*)\)\)', text):
            run.update(re.findall(r'"([^"]+)"', names))
        run.update(re.findall(r'mark\.vectors\("certs", kind="([^"]+)"\)', text))
    assert kinds <= run
    assert DIFFERENT.keys() <= kinds


@pytest.mark.parametrize("difference", DIFFERENT.values())
def test_the_page_tells_where_we_differ(difference: str) -> None:
    """In its table of differences."""
    table = PAGE.read_text().partition("## What is different from Istio")[2]
    assert any(difference in line.split("|")[1] for line in table.splitlines() if line.startswith("|"))


def test_the_attacks_that_the_page_names_are_tests() -> None:
    """Each name in its table of attacks is a test's."""
    section = PAGE.read_text().partition("## Attacks that tests carry out")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", section))
    written = {name for file in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert named
    assert named <= written, named - written
