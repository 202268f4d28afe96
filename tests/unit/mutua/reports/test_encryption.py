"""What is said of an edge, by which evidence, and a document that shows whether it was changed."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from mutua.reports import encryption
from mutua.reports.encryption import Attempt, Counted, Edge, Evidence, Handshakes, Held, Sample, State, Versions
from mutua.reports.exposition import Sample as Sample_
from mutua.verdict.connection import Protection

ANSWERED = Attempt("HEAD", True, "HTTP 200")
FAILED = Attempt("HEAD", False, "HTTP 503")
ONE = Handshakes(1, {"TLSv1.3": 1}, {"TLS_AES_128_GCM_SHA256": 1}, {"X25519MLKEM768": 1})
NONE = Handshakes()
UNSEEN = Sample()


def judged(
    attempt: Attempt | None = ANSWERED,
    sent: Protection = Protection.MUTUAL_TLS,
    new: Handshakes = ONE,
    sample: Sample = UNSEEN,
    *,
    counted: tuple[Counted, ...] = (),
    strict: bool = False,
    certificates: bool = True,
) -> State:
    return encryption.judge(attempt, sent, new, sample, counted=counted, strict=strict, has_certificates=certificates)[
        0
    ]


def test_a_handshake_for_the_connection_is_mutual_tls() -> None:
    assert judged() is State.MUTUAL_TLS


def test_over_a_kept_connection_counters_or_a_server_that_takes_nothing_else_prove_it() -> None:
    assert judged(new=NONE, strict=True) is State.MUTUAL_TLS
    assert judged(new=NONE, counted=(Counted("spiffe://a", "spiffe://b", 1),)) is State.MUTUAL_TLS
    assert judged(new=NONE) is State.UNKNOWN


@pytest.mark.parametrize("ends", [("", "spiffe://b"), ("spiffe://a", ""), ("", "")])
def test_what_the_clients_envoy_counted_without_an_identity_was_not_mutual_tls(ends: tuple[str, str]) -> None:
    counted = (Counted("spiffe://a", "spiffe://b", 1), Counted(*ends, 1))

    assert judged(new=NONE, counted=counted, strict=True) is State.PLAINTEXT


@pytest.mark.parametrize("new", [ONE, NONE])
@pytest.mark.parametrize("strict", [True, False])
def test_what_can_be_read_in_the_packets_is_plaintext_whatever_else_is_said(new: Handshakes, strict: bool) -> None:
    assert judged(new=new, strict=strict, sample=Sample(readable=True)) is State.PLAINTEXT


def test_what_the_client_sends_decides_where_it_was_answered() -> None:
    assert judged(sent=Protection.NONE, new=NONE) is State.PLAINTEXT
    assert judged(sent=Protection.TLS) is State.OTHER_TLS


def test_without_an_answer_or_a_fact_nothing_is_claimed() -> None:
    assert judged(FAILED, new=NONE) is State.REFUSED
    assert judged(FAILED, sent=Protection.NONE, new=NONE) is State.REFUSED
    assert judged(FAILED, sent=Protection.NONE, new=NONE, sample=Sample(readable=True)) is State.REFUSED
    assert judged(None) is State.UNKNOWN
    assert judged(certificates=False) is State.UNKNOWN


def test_only_mutual_tls_and_refusals_leave_nothing_open() -> None:
    assert {state for state in State if not state.is_open} == {State.MUTUAL_TLS, State.REFUSED}


def test_handshakes_are_read_from_envoys_statistics_and_told_apart_by_time() -> None:
    name = "cluster.outbound|80||web.shop.svc.cluster.local.ssl"
    entries: list[dict[str, Any]] = [
        {"name": f"{name}.handshake", "value": 3},
        {"name": f"{name}.versions.TLSv1.3", "value": 3},
        {"name": f"{name}.ciphers.TLS_AES_128_GCM_SHA256", "value": 2},
        {"name": f"{name}.ciphers.TLS_AES_256_GCM_SHA384", "value": 1},
        {"name": f"{name}.curves.X25519", "value": 3},
        {"name": f"{name}.sigalgs.ecdsa_secp256r1_sha256", "value": 3},
        {"name": f"{name}.fail_verify_san", "value": 0},
        {"name": f"{name}.certificate.default.expiration_unix_time_seconds", "value": 1},
        {"histograms": {}},
    ]
    found = encryption.handshakes(entries)

    assert (found.count, found.groups) == (3, {"X25519": 3})
    new = found.since(Handshakes(2, {"TLSv1.3": 2}, {"TLS_AES_128_GCM_SHA256": 2}, {"X25519": 2}))
    assert (new.count, new.ciphers) == (1, {"TLS_AES_256_GCM_SHA384": 1})


def test_the_certificate_that_an_envoy_holds_is_found() -> None:
    chain = {
        "serial_number": "4c",
        "subject_alt_names": [{"uri": "spiffe://cluster.local/ns/shop/sa/web"}],
        "expiration_time": "2026-01-02T00:00:00Z",
    }
    root = {"serial_number": "07", "subject_alt_names": []}

    assert encryption.held(
        {"certificates": [{"ca_cert": [root], "cert_chain": [chain]}]}, "shop/web", "1.40.0"
    ) == Held("shop/web", "spiffe://cluster.local/ns/shop/sa/web", "4c", "2026-01-02T00:00:00Z", "1.40.0")
    assert encryption.held({"certificates": []}, "shop/web", "") is None


def evidence() -> Evidence:
    edge = Edge(
        client="shop/web", server="db.shop.svc.cluster.local:80", state=State.MUTUAL_TLS, reason="so", handshakes=ONE
    )
    open_edge = Edge(
        client="shop/old", server="shop/db-1:80", state=State.PLAINTEXT, reason="the client has no sidecar"
    )
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return encryption.sealed(Evidence(now, "somebody", "shop", Versions("1", ("1",), ("1.40",)), (), (edge, open_edge)))


def test_the_digest_is_what_others_compute_from_the_printed_document() -> None:
    printed = json.loads(msgspec.json.format(msgspec.json.encode(evidence()), indent=2))
    said = printed.pop("digest")
    written = json.dumps(printed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert hashlib.sha256(written.encode()).hexdigest() == said
    changed = msgspec.structs.replace(evidence(), by="somebody else")
    assert encryption.digest(changed) != changed.digest


def test_the_table_shows_what_is_open_first_and_why() -> None:
    assert encryption.table(evidence().edges).splitlines() == [
        "CLIENT    SERVER        STATE       TLS      GROUP",
        "shop/old  shop/db-1:80  PLAINTEXT   -        -",
        "shop/web  db.shop:80    mutual TLS  TLSv1.3  X25519MLKEM768",
        "shop/old -> shop/db-1:80: the client has no sidecar",
    ]
    assert encryption.table(evidence().edges, wide=True).splitlines() == [
        "CLIENT    SERVER        STATE       TLS      CIPHER              GROUP",
        "shop/old  shop/db-1:80  PLAINTEXT   -        -                   -",
        "shop/web  db.shop:80    mutual TLS  TLSv1.3  AES_128_GCM_SHA256  X25519MLKEM768",
        "shop/old -> shop/db-1:80: the client has no sidecar",
    ]


def test_identities_are_read_from_what_the_clients_envoy_counted_and_told_apart_by_time() -> None:
    def sample(client: str, value: float, **more: str) -> Sample_:
        labels = {
            "reporter": "source",
            "destination_service": "db.shop.svc.cluster.local",
            "destination_port": "80",
            "source_principal": client,
            "destination_principal": "spiffe://b",
        }
        return Sample_("istio_requests_total", labels | more, value)

    page = [
        sample("spiffe://a", 3, response_code="200"),
        sample("spiffe://a", 1, response_code="404"),
        sample("unknown", 2),
        sample("spiffe://a", 9, destination_port="81"),
        sample("spiffe://a", 9, reporter="destination"),
        Sample_("istio_request_duration_milliseconds_count", {}, 9),
    ]
    found = encryption.counted(page, "db.shop.svc.cluster.local", 80)

    assert found == (Counted("", "spiffe://b", 2), Counted("spiffe://a", "spiffe://b", 4))
    assert encryption.more((Counted("spiffe://a", "spiffe://b", 3),), found) == (
        Counted("", "spiffe://b", 2),
        Counted("spiffe://a", "spiffe://b", 1),
    )
