"""Every workload's certificate in the control plane's memory, its page and its metrics."""

import json
from datetime import UTC, datetime

from mutua.ca.rollover import Pod
from mutua.programs.control_plane.identities import IdentityBook
from mutua.servers import admin
from mutua.servers.identity import Report

ENDS = datetime(2026, 11, 23, 19, 2, 1, tzinfo=UTC)
PODS: frozenset[Pod] = frozenset({("shop", "web-0"), ("shop", "api-0")})


def report(pod: str, error: str = "", failures: int = 0) -> Report:
    return Report(
        identity="spiffe://cluster.local/ns/shop/sa/web",
        namespace="shop",
        pod=pod,
        serial="1f",
        issuer="key-way",
        not_before=ENDS,
        not_after=ENDS,
        next_rotation=ENDS,
        roots="digest",
        error=error,
        failures=failures,
        at=ENDS,
    )


def test_who_has_told_and_who_has_not() -> None:
    """The last word counts; pods that are gone are forgotten."""
    book = IdentityBook(lambda: PODS)
    book.take(report("web-0", "nobody answers", 3))
    book.take(report("web-0"))
    book.take(report("gone-0"))
    page = json.loads(book.page())
    assert [(each["pod"], each["error"]) for each in page["certificates"]] == [("web-0", "")]
    assert page["silent"] == [{"namespace": "shop", "pod": "api-0"}]


def test_nobody_is_forgotten_before_the_cluster_is_read() -> None:
    """Reports may come before the list of pods does."""
    book = IdentityBook(lambda: None)
    book.take(report("web-0"))
    assert len(book.reports()) == 1
    assert json.loads(book.page())["silent"] == []


def test_metrics_hold_whole_timestamps() -> None:
    """To the second: an alert counts in minutes."""
    book = IdentityBook(lambda: PODS)
    book.take(report("web-0", "nobody answers", 3))
    text = admin.exposition(book.samples())
    labels = '{namespace="shop",pod="web-0",identity="spiffe://cluster.local/ns/shop/sa/web"}'
    assert f"mutua_workload_certificate_expiry_timestamp_seconds{labels} {int(ENDS.timestamp())}\n" in text
    assert f"mutua_workload_certificate_renewal_failures{labels} 3\n" in text
