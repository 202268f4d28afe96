"""What sidecars report of connections without mutual TLS: collected over Envoy's access log service, told in the log.

Only such connections are reported, so that mutual TLS costs nothing here: one entry each when they end, which is what
is counted, and some while they are open, so that nobody who stays connected stays unknown.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
import msgspec
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf.message import DecodeError

from mutua.envoy import access_log
from mutua.errors import InvalidInputError, RefusedError
from mutua.servers import peers
from mutua.servers.admin import Sample
from mutua.spiffe import SpiffeId
from mutua.system import clock
from mutua.system.logs import Log
from mutua.verdict.plaintext import PlaintextEdge
from mutua.xds.node import Node

SERVICE: Final = "envoy.service.accesslog.v3.AccessLogService"
EDGES_AT_MOST: Final = 10_000
TELL_SECONDS: Final = 60.0
"""How often an edge that goes on is told again."""

LINES_AT_MOST: Final = 100
"""Of one such while; a thousand strangers are a line that says so."""

_log: Final = Log("plaintext")

Explain: TypeAlias = Callable[[Node, SpiffeId, str, int, bool], PlaintextEdge | None]
"""(server's node, its identity, client's address, port, refused) → what it means; None if the server is not known.

Raises RefusedError if the node is not who it says it is."""

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Key: TypeAlias = tuple[str, str, int, bool]


class Seen(msgspec.Struct, frozen=True):
    """An edge, how often it was used since the control plane started (0: a first use has not ended), first and last.

    `would_refuse` counts the connections that the policy in dry run, which the edge names, would have refused.
    """

    edge: PlaintextEdge
    connections: int
    first: datetime
    last: datetime
    would_refuse: int = 0
    told: datetime | None = None  # when there was a line last


class PlaintextCollector:
    """The service. `explain` says what a reported connection means; `edges` is what was seen so far."""

    def __init__(
        self, explain: Explain, *, tell_seconds: float = TELL_SECONDS, now: Callable[[], datetime] = clock.now
    ) -> None:
        self._explain = explain
        self._now = now
        self._tell_seconds = tell_seconds
        self._seen: dict[_Key, Seen] = {}
        self._lines = 0  # of this while
        self._untold = 0
        self._forgotten = 0
        self._forgotten_told = 0

    @property
    def edges(self) -> tuple[Seen, ...]:
        """Every edge, by client, server and port."""
        return self.edges_to("")

    def edges_to(self, namespace: str) -> tuple[Seen, ...]:
        """The edges to servers of a namespace, "" is any, by client, server and port."""
        keys = [key for key in self._seen if not namespace or key[1].startswith(f"{namespace}/")]
        return tuple(self._seen[key] for key in sorted(keys))

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service; before the server starts."""
        handler = grpc.stream_unary_rpc_method_handler(self._stream)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"StreamAccessLogs": handler}),))

    async def keep_telling(self) -> None:
        """A line per edge that was used again, every so often, for ever."""
        while True:
            await asyncio.sleep(self._tell_seconds)
            self.tell_again()

    def tell_again(self) -> None:
        """A line per edge that was used since its last one, and what there was no room to tell."""
        if self._untold:
            _log.warn("non-mTLS traffic of more clients than are told", edges=self._untold, see="mutua plaintext")
        if self._forgotten > self._forgotten_told:
            _log.warn("the oldest non-mTLS traffic was forgotten", edges=self._forgotten, kept=EDGES_AT_MOST)
            self._forgotten_told = self._forgotten
        self._lines = self._untold = 0
        for key, seen in list(self._seen.items()):
            if seen.told is None or seen.last > seen.told:
                self._tell(key, seen)

    def samples(self) -> Iterable[Sample]:
        """The ledger in metrics."""
        yield Sample("mutua_plaintext_edges", len(self._seen), help="Clients and server ports without mutual TLS.")
        yield Sample("mutua_plaintext_edges_forgotten_total", self._forgotten, kind="counter")

    async def _stream(self, requests: AsyncIterator[bytes], context: _Context) -> bytes:
        node: Node | None = None
        ended = True
        try:
            identity = peers.identity(context.auth_context())
            async for content in requests:
                message = als_pb2.StreamAccessLogsMessage.FromString(content)
                if node is None:
                    node = peers.node(message.identifier.node.id, identity)
                    ended = message.identifier.log_name != access_log.OPEN
                self._take(node, identity, message, ended=ended)
        except (RefusedError, InvalidInputError, DecodeError) as error:
            _log.warn("report refused", peer=context.peer(), reason=str(error))
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        return b""

    def _take(self, node: Node, identity: SpiffeId, message: Any, *, ended: bool) -> None:
        counted: dict[tuple[str, int, bool], int] = {}
        for entry in itertools.chain(message.tcp_logs.log_entry, message.http_logs.log_entry):
            common = entry.common_properties
            client = common.downstream_direct_remote_address.socket_address.address
            details = common.custom_tags.get(access_log.DETAILS_TAG, "")
            failure = common.downstream_transport_failure_reason
            refused = details == access_log.NO_FILTER_CHAIN or bool(
                failure and not failure.startswith(access_log.INSPECTED)
            )
            way = (client, common.downstream_local_address.socket_address.port_value, refused)
            counted[way] = counted.get(way, 0) + ended
        for (client, port, refused), count in counted.items():
            edge = self._explain(node, identity, client, port, refused)
            if edge is not None:
                self._count(edge, count)

    def _count(self, edge: PlaintextEdge, connections: int) -> None:
        key = (edge.client, edge.server, edge.port, edge.refused)
        earlier = self._seen.pop(key, None)
        if earlier is None and len(self._seen) >= EDGES_AT_MOST:
            # The one that was quiet for longest goes: each use moves an edge to the end.
            del self._seen[next(iter(self._seen))]
            self._forgotten += 1
        total = connections + (earlier.connections if earlier else 0)
        rehearsed = connections if edge.would_refuse else 0
        same_rehearsal = earlier is not None and earlier.edge.would_refuse == edge.would_refuse
        if earlier is not None and same_rehearsal:
            rehearsed += earlier.would_refuse
        now = self._now()
        first = earlier.first if earlier else now
        self._seen[key] = Seen(edge, total, first, now, rehearsed, earlier.told if earlier else None)
        if earlier is None or (edge.would_refuse and not same_rehearsal):
            self._tell(key, self._seen[key])

    def _tell(self, key: _Key, seen: Seen) -> None:
        if self._lines >= LINES_AT_MOST:
            self._untold += 1
            return
        self._lines += 1
        edge = seen.edge
        rehearsal: dict[str, object] = {}
        if edge.would_refuse is not None:
            name = f"{edge.would_refuse.namespace}/{edge.would_refuse.name}"
            rehearsal = {"dry_run": f"{name} would refuse it", "would_refuse": seen.would_refuse}
        _log.warn(
            "non-mTLS traffic",
            client=edge.client,
            server=edge.server,
            port=edge.port,
            outcome="refused" if edge.refused else "accepted",
            connections=seen.connections or "open",
            mode=edge.mode.value,
            policy=f"{edge.policy.namespace}/{edge.policy.name}" if edge.policy else "default",
            reason=edge.reason,
            **rehearsal,
        )
        self._seen[key] = msgspec.structs.replace(seen, told=seen.last)
