"""What sidecars report of plaintext: who may report, what is counted, and what is told."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, NoReturn

import grpc
import msgspec
import pytest
from envoy.service.accesslog.v3 import als_pb2

from mutua.envoy import access_log
from mutua.mesh.proxy_view import MtlsMode, ObjectRef
from mutua.servers import debug, plaintext
from mutua.servers.plaintext import PlaintextCollector
from mutua.spiffe import SpiffeId
from mutua.verdict.plaintext import PlaintextEdge
from mutua.xds.node import Node

NODE = "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local"


class RefusedError(Exception):
    """The stream was ended."""


class Context:
    """A stream whose peer proved an identity."""

    def __init__(self, identity: str) -> None:
        self._identity = identity

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_subject_alternative_name": [self._identity.encode()]}

    def peer(self) -> str:
        return "ipv4:10.0.0.1:1"

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise RefusedError(code, details)


def report(*ways: tuple[str, int, str, str], node: str = NODE, log: str = access_log.ENDED) -> bytes:
    """Entries of (client, port, response code details, transport failure)."""
    message = als_pb2.StreamAccessLogsMessage()
    message.identifier.node.id = node
    message.identifier.log_name = log
    for client, port, details, failure in ways:
        common = message.tcp_logs.log_entry.add().common_properties
        common.downstream_direct_remote_address.socket_address.address = client
        common.downstream_local_address.socket_address.port_value = port
        common.custom_tags[access_log.DETAILS_TAG] = details
        common.downstream_transport_failure_reason = failure
    return bytes(message.SerializeToString())


def explained(node: Node, identity: SpiffeId, client: str, port: int, refused: bool) -> PlaintextEdge | None:
    return PlaintextEdge(
        client, f"{identity.namespace}/{node.pod}", port, refused, MtlsMode.PERMISSIVE, None, "no sidecar"
    )


async def told(collector: PlaintextCollector, *messages: bytes, namespace: str = "shop") -> None:
    async def stream() -> AsyncIterator[bytes]:
        for message in messages:
            yield message

    context: Any = Context(f"spiffe://cluster.local/ns/{namespace}/sa/web")
    await collector._stream(stream(), context)


def counted(collector: PlaintextCollector) -> list[tuple[str, int, bool, int]]:
    return [(seen.edge.client, seen.edge.port, seen.edge.refused, seen.connections) for seen in collector.edges]


async def test_connections_are_counted_by_client_port_and_outcome() -> None:
    collector = PlaintextCollector(explained)
    await told(
        collector,
        report(("10.0.0.9", 80, "-", ""), ("10.0.0.9", 80, "", ""), ("10.0.0.9", 81, "", "")),
        report(("10.0.0.9", 80, access_log.NO_FILTER_CHAIN, ""), ("10.0.0.8", 80, "", "TLS_error:|bad")),
    )

    assert counted(collector) == [
        ("10.0.0.8", 80, True, 1),
        ("10.0.0.9", 80, False, 2),
        ("10.0.0.9", 80, True, 1),
        ("10.0.0.9", 81, False, 1),
    ]


async def test_what_the_tls_inspector_found_refuses_nobody() -> None:
    collector = PlaintextCollector(explained)
    await told(collector, report(("10.0.0.9", 80, "", f"{access_log.INSPECTED}WRONG_VERSION_NUMBER")))

    assert counted(collector) == [("10.0.0.9", 80, False, 1)]


async def test_an_edge_is_told_when_it_is_new_and_not_with_every_connection(caplog: pytest.LogCaptureFixture) -> None:
    collector = PlaintextCollector(explained)
    with caplog.at_level(logging.WARNING, "mutua.plaintext"):
        await told(collector, report(("10.0.0.9", 80, "", "")), report(("10.0.0.9", 80, "", "")))

    assert [record.getMessage() for record in caplog.records] == ["non-mTLS traffic"]
    fields = caplog.records[0].__dict__["fields"]
    assert (fields["client"], fields["server"], fields["outcome"]) == ("10.0.0.9", "shop/web-1", "accepted")


@pytest.mark.parametrize(
    ("namespace", "message"),
    [("other", report(("10.0.0.9", 80, "", ""))), ("shop", b"\xff\xff"), ("shop", report(node="nonsense"))],
    ids=["of another namespace", "no message", "no node"],
)
async def test_who_is_not_who_it_says_reports_nothing(namespace: str, message: bytes) -> None:
    collector = PlaintextCollector(explained)

    with pytest.raises(RefusedError):
        await told(collector, message, namespace=namespace)
    assert collector.edges == ()


async def test_a_pod_that_is_gone_is_passed_over() -> None:
    collector = PlaintextCollector(lambda *_: None)
    await told(collector, report(("10.0.0.9", 80, "", "")))

    assert collector.edges == ()


async def test_what_a_dry_run_would_refuse_is_counted_from_its_beginning_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried: ObjectRef | None = None

    def explain(node: Node, identity: SpiffeId, client: str, port: int, refused: bool) -> PlaintextEdge | None:
        edge = explained(node, identity, client, port, refused)
        return msgspec.structs.replace(edge, would_refuse=tried) if edge else None

    collector = PlaintextCollector(explain)
    once = report(("10.0.0.9", 80, "", ""))
    with caplog.at_level(logging.WARNING, "mutua.plaintext"):
        await told(collector, once)
        tried = ObjectRef("PeerAuthentication", "shop", "tried")
        await told(collector, once, once)

    assert [(seen.connections, seen.would_refuse) for seen in collector.edges] == [(3, 2)]
    fields = [record.__dict__["fields"] for record in caplog.records]
    assert [item.get("dry_run") for item in fields] == [None, "shop/tried would refuse it"]
    assert debug.plaintext_seen(collector.edges)[0].dry_run == "shop/tried"
    tried = None
    await told(collector, once)
    assert [(seen.connections, seen.would_refuse) for seen in collector.edges] == [(4, 0)]


async def test_an_edge_tells_when_it_was_used_first_and_last() -> None:
    moments = [datetime(2026, 1, 1, 12, minute, tzinfo=UTC) for minute in range(3)]
    clock = iter(moments)
    collector = PlaintextCollector(explained, now=lambda: next(clock))
    await told(collector, *[report(("10.0.0.9", 80, "", ""))] * 3)
    (seen,) = debug.plaintext_seen(collector.edges)

    assert (seen.first_seen, seen.last_seen) == (moments[0], moments[2])


async def test_a_connection_is_told_while_it_is_open_and_counted_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    collector = PlaintextCollector(explained)
    still = report(("10.0.0.9", 80, "", ""), log=access_log.OPEN)
    with caplog.at_level(logging.WARNING, "mutua.plaintext"):
        await told(collector, still, still)
        assert counted(collector) == [("10.0.0.9", 80, False, 0)]
        await told(collector, report(("10.0.0.9", 80, "", "")))
        collector.tell_again()

    assert counted(collector) == [("10.0.0.9", 80, False, 1)]
    assert [record.__dict__["fields"]["connections"] for record in caplog.records] == ["open", 1]


async def test_a_thousand_strangers_are_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    collector = PlaintextCollector(explained)
    with caplog.at_level(logging.WARNING, "mutua.plaintext"):
        await told(collector, report(*((f"10.0.{number // 250}.{number % 250}", 80, "", "") for number in range(1000))))
        collector.tell_again()

    assert len(collector.edges) == 1000
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("non-mTLS traffic") == 2 * plaintext.LINES_AT_MOST
    assert [
        record.__dict__["fields"]["edges"] for record in caplog.records if "more clients" in record.getMessage()
    ] == [1000 - plaintext.LINES_AT_MOST]


async def test_a_full_ledger_forgets_the_quietest_and_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plaintext, "EDGES_AT_MOST", 2)
    collector = PlaintextCollector(explained)
    with caplog.at_level(logging.WARNING, "mutua.plaintext"):
        for client in ("10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3"):
            await told(collector, report((client, 80, "", "")))
        collector.tell_again()

    assert [seen.edge.client for seen in collector.edges] == ["10.0.0.1", "10.0.0.3"]
    assert "the oldest non-mTLS traffic was forgotten" in [record.getMessage() for record in caplog.records]
    assert {each.name: each.value for each in collector.samples()} == {
        "mutua_plaintext_edges": 2,
        "mutua_plaintext_edges_forgotten_total": 1,
    }
