"""One proxy's stream as the discovery service keeps it: its state, what waits to be sent, what it should have."""

import asyncio
from typing import Any, Final, TypeAlias

import grpc.aio
import msgspec

from mutua.envoy import translate
from mutua.errors import RefusedError
from mutua.mesh.proxy_view import InboundView, ProxyView
from mutua.spiffe import SpiffeId
from mutua.system.logs import Log
from mutua.xds import status, stream, wire
from mutua.xds.node import Node
from mutua.xds.status import TypeStatus
from mutua.xds.stream import Step, Stream
from mutua.xds.sync_state import Sent, SyncState

_log: Final = Log("xds")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ProxyStatus(msgspec.Struct, frozen=True):
    """One connected proxy."""

    node: Node
    identity: SpiffeId
    types: tuple[TypeStatus, ...]
    inbound: InboundView  # what it was told last to accept; acknowledged if its listeners are
    error: str = ""  # why its configuration cannot be made at present; "" = it can
    on_its_way: bool = False  # a rollout has yet to give it a part of what it should have

    @property
    def synced(self) -> bool:
        """Whether it has acknowledged all that it should have."""
        return all(each.state is SyncState.SYNCED for each in self.types)


class Connection:
    """One proxy's stream. State changes between awaits only, so nothing here is ever half done."""

    def __init__(
        self, node: Node, identity: SpiffeId, view: ProxyView, *, delta: bool, patience_seconds: float
    ) -> None:
        self.node = node
        self.identity = identity
        self.view = view  # what it was given last
        self.target = view  # what it should have once a rollout is over
        self.state = Stream(resources=translate.resources(view), delta=delta)
        self.error = ""
        self.refused: RefusedError | None = None
        self._encode = wire.delta if delta else wire.state_of_the_world
        self._patience_seconds = patience_seconds
        self._patience: asyncio.TimerHandle | None = None
        self._outbox: list[bytes] = []
        self._changed = asyncio.Event()

    def take(self, step: Step) -> None:
        """The next state, and what is to be sent because of it. At most one answer per type waits here."""
        self.state, replies = step
        if replies:
            self._outbox.extend(map(self._encode, replies))
            self._changed.set()
        waiting = stream.is_waiting(self.state)
        if waiting and self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(self._patience_seconds, self._lose_patience)
        elif not waiting and self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._patience = None
        _log.warn("proxy does not acknowledge its clusters; the rest goes ahead", proxy=self.node)
        self.take(stream.on_patience_over(self.state))

    def close(self) -> None:
        """Nothing happens any more."""
        if self._patience is not None:
            self._patience.cancel()

    def refuse(self, error: RefusedError) -> None:
        """The stream is to end: its proxy is not who it says it is any more."""
        self.refused = error
        self._changed.set()

    async def write_to(self, context: Context) -> None:
        """Send what there is to send, for as long as the stream lives; a slow reader holds up nobody else."""
        while self.refused is None:
            await self._changed.wait()
            self._changed.clear()
            while self._outbox:
                await context.write(self._outbox.pop(0))

    def give(self, view: ProxyView) -> bool:
        """Tell the proxy what is new in `view`; whether there was anything. Raises MutuaError if it cannot be made."""
        if view is self.view or view == self.view:
            return False
        resources = translate.resources(view)
        self.view = view
        self.take(stream.on_resources(self.state, resources))
        return True

    def owes(self, type_urls: tuple[str, ...]) -> bool:
        """Whether the proxy has yet to be told or to acknowledge something of these types."""
        return any(stream.is_outstanding(self.state, type_url) for type_url in type_urls)

    def status(self) -> ProxyStatus:
        """What this proxy has."""
        return ProxyStatus(
            node=self.node,
            identity=self.identity,
            types=status.of(self.state),
            inbound=self.view.inbound,
            error=self.error,
            on_its_way=self.view is not self.target and self.view != self.target,
        )

    def sent(self, *, bodies: bool) -> tuple[Sent, ...]:
        """What this proxy was sent last; with `bodies` also the resources themselves."""
        return status.sent(self.state, bodies=bodies)
