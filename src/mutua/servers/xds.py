"""Aggregated discovery over gRPC: proxies prove who they are, subscribe, and are told of every change at once."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, Never, TypeAlias

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from mutua.errors import InvalidInputError, MutuaError, NotFoundError, RefusedError
from mutua.mesh.proxy_view import ProxyView
from mutua.servers import peers
from mutua.servers.xds_connection import Connection, Context, ProxyStatus
from mutua.spiffe import SpiffeId
from mutua.system.logs import Log
from mutua.xds import rollout, stream
from mutua.xds.node import Node
from mutua.xds.rollout import Phase, Rollout
from mutua.xds.sync_state import Sent

SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"

SERVER_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_concurrent_streams", 1000),
    # Peers send us little, so the line is not measured: it takes a ping for most of what is read.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A proxy has to show a current certificate again from time to time; it comes back with what it holds.
    ("grpc.max_connection_age_ms", 30 * 60 * 1000),
    ("grpc.max_connection_age_grace_ms", 10_000),
)
"""For the gRPC server that the service is added to: limits on what a peer may send, and on how long it is believed."""

PATIENCE_SECONDS: Final = 5.0
"""How long listeners wait for clusters to be acknowledged: a cluster that never warms must not hold up a policy."""

STRANGER_PATIENCE_SECONDS: Final = 5.0
"""How long a proxy may wait for its pod to be known here: it may well connect before its pod's event arrives."""

REQUESTS_BURST: Final = 200
REQUESTS_PER_SECOND: Final = 50.0

CONNECTIONS_BETWEEN_PAUSES: Final = 25
"""While a change is worked out for many proxies, others are heard in between."""

_log: Final = Log("xds")

Lookup: TypeAlias = Callable[[Node, SpiffeId], ProxyView]
"""A proven proxy's view. Raises NotFoundError while its pod is not known, RefusedError if it is not who it says."""


class XdsServer:
    """The service. `lookup` says what a proven proxy is told; call `publish` whenever its answers may have changed."""

    def __init__(
        self,
        lookup: Lookup,
        *,
        on_change: Callable[[ProxyStatus], None] | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        stranger_patience_seconds: float = STRANGER_PATIENCE_SECONDS,
    ) -> None:
        """`on_change` is called with a proxy's status after it was sent, acknowledged or refused something."""
        self._lookup = lookup
        self._on_change = on_change
        self._patience_seconds = patience_seconds
        self._stranger_patience_seconds = stranger_patience_seconds
        self._connections: dict[int, Connection] = {}
        self._numbers = itertools.count(1)
        self._published = asyncio.Event()
        self._rollout: Rollout | None = None
        self._outstanding: set[Connection] = set()  # those that have yet to acknowledge what a rollout gave them
        self._rollout_timer: asyncio.TimerHandle | None = None
        self._publishing = asyncio.Lock()
        self._next_phase: asyncio.Task[None] | None = None

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service; before the server starts."""
        # Bytes go in and out as they are: answers are joined from resources that were serialised once.
        handlers = {
            "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(self._state_of_the_world),
            "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(self._delta),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def publish(self) -> None:
        """Work out every proxy's configuration anew, and send what changed; an unchanged one costs a comparison.

        A change of mutual TLS that concerns both ends of a connection goes out step by step, see `mutua.xds.rollout`.
        """
        async with self._publishing:
            published, self._published = self._published, asyncio.Event()
            published.set()
            connections = list(self._connections.values())
            for count, connection in enumerate(connections, start=1):
                self._look_up(connection)
                if count % CONNECTIONS_BETWEEN_PAUSES == 0:
                    await asyncio.sleep(0)
            changes = ((each.view, each.target) for each in connections)
            self._rollout = rollout.begun(self._rollout, changes, asyncio.get_running_loop().time())
            await self._give()

    async def _give(self) -> None:
        """Every proxy gets what it is to have in this phase of the rollout, or all if there is none."""
        phase = self._rollout.phase if self._rollout else None
        self._outstanding.clear()
        for count, connection in enumerate(list(self._connections.values()), start=1):
            self._refresh(connection, phase)
            if phase is not None and connection.owes(rollout.AWAITED[phase]):
                self._outstanding.add(connection)
            if count % CONNECTIONS_BETWEEN_PAUSES == 0:
                await asyncio.sleep(0)
        self._step()

    async def _begin_phase(self) -> None:
        async with self._publishing:
            await self._give()
        if self._rollout is None:
            # The last phase may bring nothing new to anybody, and still it is news that the change is through.
            for connection in list(self._connections.values()):
                self._tell(connection)

    def _settle(self, connection: Connection, *, left: bool = False) -> None:
        """Take note of an acknowledgement, or of a proxy that left: the last one lets the rollout go on."""
        if self._rollout is None or connection not in self._outstanding:
            return
        if left or not connection.owes(rollout.AWAITED[self._rollout.phase]):
            self._outstanding.discard(connection)
            if not self._outstanding and not self._publishing.locked():
                self._step()

    def _step(self) -> None:
        """Go on with the rollout as far as acknowledgements and time allow."""
        if self._rollout_timer is not None:
            self._rollout_timer.cancel()
            self._rollout_timer = None
        if self._rollout is None:
            return
        phase = self._rollout.phase
        loop = asyncio.get_running_loop()
        self._rollout = rollout.advanced(self._rollout, loop.time(), outstanding=bool(self._outstanding))
        if self._rollout is None and self._outstanding:
            _log.warn("a change of mutual TLS goes ahead without everybody's word", proxies=len(self._outstanding))
        if self._rollout is not None and self._rollout.phase is phase:
            self._rollout_timer = loop.call_at(self._rollout.due, self._step)
        else:
            self._next_phase = loop.create_task(self._begin_phase())

    @property
    def settled(self) -> bool:
        """Whether every connected proxy has acknowledged all that it should have, and no change is on its way."""
        return self._rollout is None and all(each.status().synced for each in self._connections.values())

    def status(self, namespace: str = "") -> tuple[ProxyStatus, ...]:
        """Every connected proxy, or those of a namespace, by pod and namespace."""
        return tuple(sorted(self.statuses(namespace), key=lambda each: (each.node.pod, each.node.namespace)))

    def statuses(self, namespace: str = "") -> Iterator[ProxyStatus]:
        """The same in no order, one after the other: what is not asked for costs nothing."""
        for connection in list(self._connections.values()):
            if namespace in ("", connection.node.namespace):
                yield connection.status()

    def sent(self, namespace: str, pod: str, *, bodies: bool) -> tuple[Sent, ...]:
        """What one proxy was sent last; () if it is not connected here."""
        for each in self._connections.values():
            if (each.node.namespace, each.node.pod) == (namespace, pod):
                return each.sent(bodies=bodies)
        return ()

    def _look_up(self, connection: Connection) -> None:
        """Note what the proxy should have."""
        try:
            connection.target = self._lookup(connection.node, connection.identity)
        except NotFoundError:
            return  # its pod is on its way out: it keeps what it has until it is gone
        except RefusedError as error:
            _log.warn("proxy is refused from now on", proxy=connection.node, reason=error.message)
            connection.refuse(error)
        except Exception as error:  # a fault of ours with one proxy must not keep the news from the others
            self._keep(connection, error)

    def _refresh(self, connection: Connection, phase: Phase | None) -> None:
        """Give the proxy what it is to have now."""
        try:
            if not connection.give(rollout.given(phase, connection.view, connection.target)):
                return
        except Exception as error:  # as above
            self._keep(connection, error)
        else:
            connection.error = ""
            self._tell(connection)

    def _keep(self, connection: Connection, error: Exception) -> None:
        connection.error = str(error)
        _log.error("proxy keeps its last configuration", proxy=connection.node, reason=f"{error!r}")
        self._tell(connection)

    async def _delta(self, requests: AsyncIterator[bytes], context: Context) -> None:
        await self._serve(requests, context, delta=True)

    async def _state_of_the_world(self, requests: AsyncIterator[bytes], context: Context) -> None:
        await self._serve(requests, context, delta=False)

    async def _serve(self, requests: AsyncIterator[bytes], context: Context, *, delta: bool) -> None:
        identity = None
        try:
            identity = peers.identity(context.auth_context())
            first = _parsed(await anext(aiter(requests)), delta=delta)
            node = peers.node(first.node.id, identity)
            view = await self._admitted(node, identity)
            connection = Connection(node, identity, view, delta=delta, patience_seconds=self._patience_seconds)
        except StopAsyncIteration:
            return
        except RefusedError as error:
            await _end(context, grpc.StatusCode.PERMISSION_DENIED, error, identity)
        except NotFoundError as error:
            await _end(context, grpc.StatusCode.PERMISSION_DENIED, error, identity)
        except InvalidInputError as error:
            await _end(context, grpc.StatusCode.INVALID_ARGUMENT, error, identity)
        except Exception as error:  # gRPC would tell the peer what went wrong inside, and us nothing
            _log.error("proxy gets no configuration", identity=identity, reason=f"{error!r}")
            await context.abort(grpc.StatusCode.INTERNAL, "the configuration could not be made")
            raise AssertionError("abort returned") from error
        number = next(self._numbers)
        self._connections[number] = connection
        _log.info("proxy connected", proxy=node, identity=identity, delta=delta)
        try:
            await self._converse(connection, first, requests, context)
        finally:
            del self._connections[number]
            connection.close()
            self._settle(connection, left=True)
            _log.info("proxy left", proxy=node)

    async def _admitted(self, node: Node, identity: SpiffeId) -> ProxyView:
        """The view of a proxy whose pod exists; waits a little for a pod of which the news has not arrived yet."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._stranger_patience_seconds):
                while True:
                    published = self._published
                    try:
                        return self._lookup(node, identity)
                    except NotFoundError:
                        await published.wait()
        return self._lookup(node, identity)

    async def _converse(
        self, connection: Connection, first: Any, requests: AsyncIterator[bytes], context: Context
    ) -> None:
        reading = asyncio.create_task(self._read(connection, first, requests))
        writing = asyncio.create_task(connection.write_to(context))
        try:
            done, _ = await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if connection.refused:
                raise connection.refused
        except InvalidInputError as error:
            await _end(context, grpc.StatusCode.INVALID_ARGUMENT, error, connection.identity)
        except RefusedError as error:
            await _end(context, grpc.StatusCode.PERMISSION_DENIED, error, connection.identity)
        except (grpc.aio.UsageError, grpc.aio.InternalError):
            pass  # the peer is gone: there is nobody to tell
        finally:
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _read(self, connection: Connection, first: Any, requests: AsyncIterator[bytes]) -> None:
        """Act on each request as it comes, but not faster than a well-behaved proxy would ask."""
        clock = asyncio.get_running_loop().time
        allowance, last = float(REQUESTS_BURST), clock()
        self._act(connection, first)
        async for message in requests:
            now = clock()
            allowance = min(REQUESTS_BURST, allowance + (now - last) * REQUESTS_PER_SECOND) - 1
            last = now
            if allowance < 0:
                await asyncio.sleep(-allowance / REQUESTS_PER_SECOND)
            request = _parsed(message, delta=connection.state.delta)
            if request.node.id and request.node.id != str(connection.node):
                raise RefusedError(f"the stream of {connection.node} now claims to be {request.node.id[:200]!r}")
            self._act(connection, request)

    def _act(self, connection: Connection, request: Any) -> None:
        if request.HasField("error_detail"):
            _log.error(
                "proxy refused its configuration",
                proxy=connection.node,
                type=request.type_url.rpartition(".")[2],
                reason=request.error_detail.message,
            )
        on_request = stream.on_delta_request if connection.state.delta else stream.on_request
        connection.take(on_request(connection.state, request))
        self._tell(connection)
        self._settle(connection)

    def _tell(self, connection: Connection) -> None:
        if self._on_change is not None:
            self._on_change(connection.status())


def _parsed(message: bytes, *, delta: bool) -> Any:
    kind = discovery_pb2.DeltaDiscoveryRequest if delta else discovery_pb2.DiscoveryRequest
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise InvalidInputError("the message is not a discovery request") from error


async def _end(context: Context, code: grpc.StatusCode, error: MutuaError, identity: SpiffeId | None) -> Never:
    """Close the stream. The log says all; the peer is told only what it needs to be put right."""
    _log.warn("stream refused", peer=context.peer(), identity=identity or "unknown", reason=error.message)
    await context.abort(code, error.message)
    raise AssertionError("abort returned")  # it raises always; the checker cannot know
