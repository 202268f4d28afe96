"""One stream of one proxy: all its subscriptions, and in which order their answers may leave.

What is sent never refers to what the proxy does not hold yet, and nothing is taken away that is still referred to:
clusters, endpoints, listeners, routes; removals of clusters come last.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from envoy.service.discovery.v3 import discovery_pb2

from mutua.envoy.resource_set import CLUSTER, ENDPOINT, LISTENER, ROUTE, TYPES, Resource, ResourceSet
from mutua.errors import InvalidInputError
from mutua.xds import subscription as subscriptions
from mutua.xds.subscription import Difference, Push, Subscription

MAX_NAMES: Final = 200_000
"""More names than any mesh has on one proxy; a client that asks for more is not one of ours."""

NOT_BEFORE: Final[Mapping[str, tuple[str, ...]]] = {
    CLUSTER: (),
    ENDPOINT: (),
    LISTENER: (CLUSTER,),
    ROUTE: (CLUSTER, LISTENER),
}
"""Changes of a type wait until those types' answers are settled. What a client asks for by name never waits."""

FULL_STATE_TYPES: Final = frozenset({CLUSTER, LISTENER})
"""In the state-of-the-world protocol an answer of these types is everything; of the others it may be a part."""


@dataclass(frozen=True)
class Reply:
    """One answer to be sent."""

    type_url: str
    push: Push
    version: str  # of the whole type; the state-of-the-world protocol and people read it


@dataclass(frozen=True)
class Stream:
    """One connection's state. `delta` tells which of the two protocols it speaks."""

    resources: ResourceSet
    delta: bool = True
    subscriptions: Mapping[str, Subscription] = field(default_factory=dict)
    sent: int = 0  # answers so far: the next nonce
    impatient: bool = False  # an answer took too long: order gives way to getting policies through


Step = tuple[Stream, list[Reply]]


def on_delta_request(stream: Stream, request: discovery_pb2.DeltaDiscoveryRequest) -> Step:
    """An incremental request: first of its type, change of what is asked for, acknowledgement, refusal, or several.

    Raises InvalidInputError for a request that no Envoy sends.
    """
    type_url = request.type_url
    if type_url not in TYPES:
        return stream, []
    known = stream.subscriptions.get(type_url)
    subscription = known or Subscription()
    if known is None:
        # Without names the first request means all there is; naming resources later does not change that.
        subscription = subscriptions.holding(subscription, dict(request.initial_resource_versions))
        subscription = replace(subscription, wildcard=not request.resource_names_subscribe)
        held = frozenset(name for name in request.resource_names_subscribe if name in subscription.known)
    else:
        held = frozenset()
    if request.response_nonce:
        refusal = request.error_detail.message if request.HasField("error_detail") else None
        subscription = subscriptions.settled(subscription, request.response_nonce, refusal)
    if request.resource_names_subscribe:
        subscription = subscriptions.asked(subscription, request.resource_names_subscribe)
        # A client that comes back with what it holds needs the differences only.
        subscription = replace(subscription, owed=subscription.owed - held)
    if request.resource_names_unsubscribe:
        subscription = subscriptions.dropped(subscription, request.resource_names_unsubscribe)
    return _advance(_with(stream, type_url, subscription))


def on_request(stream: Stream, request: discovery_pb2.DiscoveryRequest) -> Step:
    """A state-of-the-world request: each names all that is asked for. Raises InvalidInputError as above."""
    type_url = request.type_url
    if type_url not in TYPES:
        return stream, []
    known = stream.subscriptions.get(type_url)
    subscription = known or Subscription()
    wanted = frozenset(request.resource_names) - {subscriptions.WILDCARD}
    if known is None:
        subscription = replace(subscription, wildcard=not wanted or subscriptions.WILDCARD in request.resource_names)
        if request.version_info and request.version_info == stream.resources.of(type_url).digest:
            # It comes back with exactly this: nothing to tell.
            section = stream.resources.of(type_url)
            held = {name: each.version for name, each in section.resources.items()}
            subscription = replace(subscriptions.holding(subscription, held), names=wanted, answered=True)
    if request.response_nonce:
        refusal = request.error_detail.message if request.HasField("error_detail") else None
        pending = subscription.pending
        if pending is not None and pending.nonce != request.response_nonce:
            return stream, []  # it answers an earlier push, so its names are of an earlier time too
        subscription = subscriptions.settled(subscription, request.response_nonce, refusal, divisible=False)
    added, gone = wanted - subscription.names, subscription.names - wanted
    if added and not (known is None and subscription.answered):
        subscription = subscriptions.asked(subscription, added)
    if gone and not subscription.wildcard:
        subscription = subscriptions.dropped(subscription, gone)
    return _advance(_with(stream, type_url, subscription))


def on_resources(stream: Stream, resources: ResourceSet) -> Step:
    """The proxy should now hold `resources`. While an answer is on its way, only the latest state waits behind it."""
    return _advance(replace(stream, resources=resources))


def on_patience_over(stream: Stream) -> Step:
    """An answer was not settled in time: what waits for it goes ahead, so that no cluster can hold up a policy."""
    return _advance(replace(stream, impatient=True))


def is_waiting(stream: Stream) -> bool:
    """Whether something is held back until an answer is settled."""
    return any(_blocked(stream, type_url) and difference(stream, type_url) for type_url in stream.subscriptions)


def is_outstanding(stream: Stream, type_url: str) -> bool:
    """Whether the client has yet to be told something of a type, or to acknowledge what it was told."""
    subscription = stream.subscriptions.get(type_url)
    return subscription is not None and (subscription.pending is not None or bool(difference(stream, type_url)))


def difference(stream: Stream, type_url: str, *, only_owed: bool = False) -> Difference:
    """What the client has yet to be told of one type, whether or not it may be told now."""
    # Endpoints and routes go with the cluster or listener that names them: the client drops them itself.
    keep = type_url in (ENDPOINT, ROUTE) or (type_url == CLUSTER and not _clusters_can_go(stream))
    subscription = stream.subscriptions[type_url]
    return subscriptions.due(subscription, stream.resources.of(type_url), only_owed=only_owed, keep=keep)


def _with(stream: Stream, type_url: str, subscription: Subscription) -> Stream:
    if len(subscription.names) > MAX_NAMES:
        raise InvalidInputError(f"more than {MAX_NAMES} resources of one type were asked for")
    return replace(stream, subscriptions={**stream.subscriptions, type_url: subscription})


def _advance(stream: Stream) -> Step:
    """All answers that may leave now."""
    if stream.impatient and not any(each.pending for each in stream.subscriptions.values()):
        stream = replace(stream, impatient=False)
    replies: list[Reply] = []
    # Clusters are asked twice: whether any can be taken away shows only after listeners and routes were.
    for type_url in (*TYPES, CLUSTER):
        stream, reply = _answer(stream, type_url)
        if reply is not None:
            replies.append(reply)
    return stream, replies


def _answer(stream: Stream, type_url: str) -> tuple[Stream, Reply | None]:
    subscription = stream.subscriptions.get(type_url)
    if subscription is None or subscription.pending is not None:
        return stream, None
    section = stream.resources.of(type_url)
    only_owed = _blocked(stream, type_url)
    told = difference(stream, type_url, only_owed=only_owed)
    complete = not only_owed and not subscription.suspects and (type_url != CLUSTER or _clusters_can_go(stream))
    first = not subscription.answered and subscription.wildcard and not subscription.known
    if not told and not first:
        if subscription.suspects and not only_owed:
            # Those under suspicion are not served any more.
            subscription = replace(subscription, suspects=subscription.suspects[1:])
            return _answer(_with(stream, type_url, subscription), type_url)
        if complete:
            # Also one that came back holding all this: in step without a word.
            stream = _with(stream, type_url, replace(subscriptions.in_step(subscription, section), answered=True))
        return stream, None
    if not stream.delta and type_url in FULL_STATE_TYPES:
        told = Difference(changed=_everything(stream, type_url, told), removed=told.removed)
    push = Push(nonce=str(stream.sent + 1), changed=told.changed, removed=told.removed)
    changed_clusters = _new_to(subscription, push) if type_url == CLUSTER else frozenset()
    stream = _with(stream, type_url, subscriptions.sent(subscription, push, section, complete=complete))
    stream = _owe_endpoints(replace(stream, sent=stream.sent + 1), changed_clusters)
    return stream, Reply(type_url=type_url, push=push, version=section.digest)


def _blocked(stream: Stream, type_url: str) -> bool:
    if stream.impatient:
        return False
    return any(
        other in stream.subscriptions and stream.subscriptions[other].pending is not None
        for other in NOT_BEFORE[type_url]
    )


def _clusters_can_go(stream: Stream) -> bool:
    """Whether no listener and no route on the proxy can still refer to a cluster that is not served any more."""
    return stream.impatient or not any(
        stream.subscriptions[type_url].pending or difference(stream, type_url)
        for type_url in (LISTENER, ROUTE)
        if type_url in stream.subscriptions
    )


def _everything(stream: Stream, type_url: str, told: Difference) -> tuple[Resource, ...]:
    """The whole state of a type, with what is gone but may not be taken away yet."""
    section = stream.resources.of(type_url)
    base = stream.subscriptions[type_url].base
    kept = base.resources if base is not None and not told.removed else {}
    return tuple({**kept, **section.resources}.values())


def _new_to(subscription: Subscription, push: Push) -> frozenset[str]:
    return frozenset(each.name for each in push.changed if subscription.known.get(each.name) != each.version)


def _owe_endpoints(stream: Stream, clusters: frozenset[str]) -> Stream:
    """A changed cluster warms up anew and needs its endpoints once more, for which Envoy does not ask again.

    Without them Envoy would not acknowledge the clusters until a timeout of 15 seconds.
    """
    subscription = stream.subscriptions.get(ENDPOINT)
    waiting = clusters & subscription.names & stream.resources.of(ENDPOINT).resources.keys() if subscription else None
    if subscription is None or not waiting:
        return stream
    return _with(stream, ENDPOINT, replace(subscription, owed=subscription.owed | waiting))
