"""The walk from a symptom to its cause, on facts that a cluster seldom shows."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from mutua.reports import diagnosis, error_texts, sockets
from mutua.reports.diagnosis_facts import Certificate, Evidence, Listening, Side

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
IDENTITY = "spiffe://cluster.local/ns/shop/sa/web"
GOOD = Certificate(identity=IDENTITY, not_before=NOW - DAY, not_after=NOW + DAY, roots=frozenset({"a"}))
SIDE = Side(
    namespace="shop",
    name="web-1",
    labels={"app": "web"},
    service_account="web",
    phase="Running",
    owner="web",
    connected=True,
    certificate=GOOD,
    expected_identity=IDENTITY,
)


def with_certificate(**changes: object) -> Side:
    return msgspec.structs.replace(SIDE, certificate=msgspec.structs.replace(GOOD, **changes))


def alone(side: Side) -> diagnosis.Diagnosis:
    return diagnosis.diagnose(Evidence(now=NOW, client=side))


def test_a_healthy_pod_has_no_cause() -> None:
    found = alone(SIDE)

    assert found.cause == ""
    assert all(look.good for look in found.looks)


@pytest.mark.parametrize(
    ("side", "cause"),
    [
        (msgspec.structs.replace(SIDE, phase="Pending", waiting=("web: ErrImagePull",)), "pod-not-running"),
        (msgspec.structs.replace(SIDE, has_sidecar=False, injection="no label"), "sidecar-missing"),
        (msgspec.structs.replace(SIDE, certificate=None), "no-certificate"),
        (with_certificate(not_after=NOW), "certificate-expired"),
        (msgspec.structs.replace(SIDE, clock_ahead=timedelta(hours=1), certificate=None), "clock-skew"),
        (msgspec.structs.replace(SIDE, clock_ahead=timedelta(minutes=-2)), "clock-skew"),
        (with_certificate(identity=IDENTITY + "x"), "wrong-identity"),
        (msgspec.structs.replace(SIDE, connected=False), "not-connected"),
        (msgspec.structs.replace(SIDE, proxy_ready=False), "proxy-not-ready"),
        (msgspec.structs.replace(SIDE, refused=("LDS x: bad regex",)), "configuration-refused"),
    ],
)
def test_each_fault_of_a_pod_has_its_name_and_ends_the_walk(side: Side, cause: str) -> None:
    found = alone(side)

    assert found.cause == cause
    assert found.looks[-1].good is False
    assert found.sentence.startswith(("shop/web-1", "The "))


def test_a_clock_that_is_a_little_off_hurts_nobody() -> None:
    assert alone(msgspec.structs.replace(SIDE, clock_ahead=timedelta(seconds=-50))).cause == ""


def test_two_sides_without_a_common_root() -> None:
    other = with_certificate(roots=frozenset({"b"}))
    found = diagnosis.diagnose(Evidence(now=NOW, client=SIDE, server=other, target="web:80"))

    assert found.cause == "roots-differ"
    assert len(found.fix.commands) == 2


@pytest.mark.parametrize(("mesh", "cause"), [({"a", "b"}, ""), ({"b"}, "roots-differ"), (set(), "")])
def test_a_sidecar_that_trusts_none_of_the_meshs_roots(mesh: set[str], cause: str) -> None:
    assert diagnosis.diagnose(Evidence(now=NOW, client=SIDE, mesh_roots=frozenset(mesh))).cause == cause


def test_a_pod_that_is_older_than_the_label_only_needs_to_be_made_again() -> None:
    old = msgspec.structs.replace(SIDE, has_sidecar=False, would_be_injected=True, injection="made before")

    assert alone(old).fix.commands == ("kubectl rollout restart deployment/web -n shop",)


def test_a_namespace_without_the_label_gets_it() -> None:
    reason = "No matching namespace labels (istio-injection=enabled) or pod labels (x)"
    found = alone(msgspec.structs.replace(SIDE, has_sidecar=False, injection=reason))

    assert found.fix.commands[0] == "kubectl label namespace shop istio-injection=enabled --overwrite"
    assert [change.kind for change in found.fix.changes] == ["Namespace", "Deployment"]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER", "WRONG_VERSION_NUMBER"),
        ("OPENSSL_internal:CERTIFICATE_VERIFY_FAILED", "CERTIFICATE_VERIFY_FAILED"),
        ("NR filter_chain_not_found -", "filter_chain_not_found"),
        ("RBAC: access denied", "RBAC: access denied"),
        ("TLS_error: Secret is not supplied by SDS", "Secret is not supplied by SDS"),
        ("curl: (56) Recv failure: Connection reset by peer", "connection reset"),
        ("curl: (52) Empty reply from server", "connection reset"),
        ("upstream connect error or disconnect/reset before headers", "upstream connect error"),
        ("no healthy upstream", "no healthy upstream"),
    ],
)
def test_texts_that_people_paste_are_understood(text: str, title: str) -> None:
    meanings = error_texts.understood(text)

    assert meanings[0].title == title
    assert set(meanings[0].causes) <= diagnosis.CAUSES.keys()


def test_other_texts_are_not() -> None:
    assert error_texts.understood("everything is fine") == ()


def test_every_cause_is_documented() -> None:
    page = (Path(__file__).parents[4] / "docs" / "troubleshooting.md").read_text()

    assert [cause for cause in diagnosis.CAUSES if f"`{cause}`" not in page] == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0: 00000000:1F90 00000000:0000 0A", Listening.YES),
        ("0: 0100007F:1F90 00000000:0000 0A", Listening.LOOPBACK),
        ("0: 0100007F:1F90 00000000:0000 01", Listening.NO),
        ("0: 00000000:1F91 00000000:0000 0A", Listening.NO),
        ("0: 00000000000000000000000000000000:1F90 0:0 0A", Listening.YES),
        ("0: 00000000000000000000000001000000:1F90 0:0 0A", Listening.LOOPBACK),
    ],
)
def test_sockets_that_wait_are_read_from_the_kernels_table(line: str, expected: Listening) -> None:
    header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"

    assert sockets.listening(f"{header}\n   {line} 0:0 0\n", 8080) is expected
