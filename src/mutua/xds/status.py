"""What a proxy has, per type: in step, behind, or refused with Envoy's words."""

import msgspec

from mutua.envoy.resource_set import SHORT_NAMES, TYPES
from mutua.xds import stream as streams
from mutua.xds.stream import Stream
from mutua.xds.subscription import ABSENT
from mutua.xds.sync_state import Sent, SyncState


class TypeStatus(msgspec.Struct, frozen=True):
    """One type of resource of one proxy."""

    type: str  # CDS, EDS, LDS, RDS
    state: SyncState
    rejected: tuple[tuple[str, str], ...] = ()  # (resource name, Envoy's words), by name


def of(stream: Stream) -> tuple[TypeStatus, ...]:
    """The status of every type, in the order in which they are sent."""
    return tuple(_of_type(stream, type_url) for type_url in TYPES)


def sent(stream: Stream, *, bodies: bool) -> tuple[Sent, ...]:
    """What the client was sent last, whether it took it or not. A body is there while nothing newer waits."""
    found = []
    for type_url in TYPES:
        subscription = stream.subscriptions.get(type_url)
        resources = stream.resources.of(type_url).resources if bodies else {}
        for name, version in sorted(subscription.known.items() if subscription else ()):
            current = resources.get(name)
            body = current.body if current is not None and current.version == version else b""
            if version != ABSENT:
                found.append(Sent(SHORT_NAMES[type_url], name, version, body))
    return tuple(found)


def _of_type(stream: Stream, type_url: str) -> TypeStatus:
    subscription = stream.subscriptions.get(type_url)
    name = SHORT_NAMES[type_url]
    if subscription is None or not subscription.answered:
        return TypeStatus(type=name, state=SyncState.NOT_SENT)
    if subscription.rejected:
        rejected = tuple(sorted((key, each.reason) for key, each in subscription.rejected.items()))
        return TypeStatus(type=name, state=SyncState.ERROR, rejected=rejected)
    behind = subscription.pending or streams.difference(stream, type_url)
    return TypeStatus(type=name, state=SyncState.STALE if behind else SyncState.SYNCED)
