"""What is sent next, and in which order: requests and resources in, replies out, no network."""

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given
from hypothesis import strategies as st

from mutua.envoy.resource_set import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource, ResourceSet, resource, section
from mutua.errors import InvalidInputError
from mutua.xds import status, stream, wire
from mutua.xds.stream import Reply, Stream
from mutua.xds.sync_state import SyncState


def version(name: str, type_url: str, content: str) -> Resource:
    """A resource whose content is a word."""
    return resource(name, type_url, cluster_pb2.Cluster(name=name, alt_stat_name=content))


def served(**types: dict[str, str]) -> ResourceSet:
    """Resources by type: name to content."""
    urls = {"cds": CLUSTER, "eds": ENDPOINT, "lds": LISTENER, "rds": ROUTE}
    return ResourceSet(
        sections={
            urls[key]: section([version(name, urls[key], content) for name, content in resources.items()])
            for key, resources in types.items()
        }
    )


class Client:
    """An Envoy: what it holds is what it was told."""

    def __init__(self, resources: ResourceSet, *, delta: bool = True) -> None:
        self.state = Stream(resources=resources, delta=delta)
        self.waiting: list[Reply] = []

    def asks(
        self, type_url: str, *names: str, held: dict[str, str] | None = None, gone: tuple[str, ...] = ()
    ) -> list[Any]:
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=names,
            resource_names_unsubscribe=gone,
            initial_resource_versions=held or {},
        )
        return self._step(stream.on_delta_request(self.state, request))

    def acknowledges(self, type_url: str, refusal: str = "") -> list[Any]:
        reply = next(each for each in self.waiting if each.type_url == type_url)
        self.waiting.remove(reply)
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=reply.push.nonce)
        if refusal:
            request.error_detail.message = refusal
        return self._step(stream.on_delta_request(self.state, request))

    def acknowledges_all(self) -> None:
        while self.waiting:
            self.acknowledges(self.waiting[0].type_url)

    def is_served(self, resources: ResourceSet) -> list[Any]:
        return self._step(stream.on_resources(self.state, resources))

    def of(self, type_url: str) -> SyncState:
        names = {CLUSTER: "CDS", ENDPOINT: "EDS", LISTENER: "LDS", ROUTE: "RDS"}
        return next(each.state for each in status.of(self.state) if each.type == names[type_url])

    def _step(self, step: stream.Step) -> list[Any]:
        self.state, replies = step
        self.waiting += replies
        return [told(reply) for reply in replies]


def told(reply: Reply) -> tuple[str, dict[str, str], list[str]]:
    """A reply as a client reads it from the wire: type, name to content, removed names."""
    message = discovery_pb2.DeltaDiscoveryResponse.FromString(wire.delta(reply))
    contents = {}
    for each in message.resources:
        assert each.resource.type_url == reply.type_url
        contents[each.name] = cluster_pb2.Cluster.FromString(each.resource.value).alt_stat_name
    return message.type_url, contents, list(message.removed_resources)


@pytest.fixture
def client() -> Client:
    made = Client(served(cds={"a": "1", "b": "1"}, eds={"a": "1", "b": "1"}, lds={"l": "1"}, rds={"r": "1"}))
    made.asks(CLUSTER)
    made.asks(ENDPOINT, "a", "b")
    made.asks(LISTENER)
    made.asks(ROUTE, "r")
    made.acknowledges_all()
    return made


def test_the_first_request_without_names_means_everything() -> None:
    client = Client(served(cds={"a": "1", "b": "2"}))

    assert client.asks(CLUSTER) == [(CLUSTER, {"a": "1", "b": "2"}, [])]
    assert client.of(CLUSTER) is SyncState.STALE
    assert client.acknowledges(CLUSTER) == []
    assert client.of(CLUSTER) is SyncState.SYNCED
    assert client.of(LISTENER) is SyncState.NOT_SENT


def test_an_empty_type_is_answered_once() -> None:
    assert Client(served()).asks(LISTENER) == [(LISTENER, {}, [])]


def test_only_what_changed_is_sent(client: Client) -> None:
    assert client.is_served(
        served(cds={"a": "1", "b": "1"}, eds={"a": "1", "b": "2"}, lds={"l": "1"}, rds={"r": "1"})
    ) == [(ENDPOINT, {"b": "2"}, [])]


def test_nothing_changed_nothing_sent(client: Client) -> None:
    again = served(cds={"a": "1", "b": "1"}, eds={"a": "1", "b": "1"}, lds={"l": "1"}, rds={"r": "1"})

    assert client.is_served(again) == []


def test_while_an_answer_is_on_its_way_only_the_latest_state_waits(client: Client) -> None:
    def state(content: str) -> ResourceSet:
        return served(cds={"a": "1", "b": "1"}, eds={"a": content, "b": "1"}, lds={"l": "1"}, rds={"r": "1"})

    client.is_served(state("2"))
    assert [client.is_served(state("3")), client.is_served(state("4"))] == [[], []]
    assert client.acknowledges(ENDPOINT) == [(ENDPOINT, {"a": "4"}, [])]


def test_a_changed_cluster_gets_its_endpoints_again_unasked(client: Client) -> None:
    changed = served(cds={"a": "2", "b": "1"}, eds={"a": "1", "b": "1"}, lds={"l": "1"}, rds={"r": "1"})

    assert client.is_served(changed) == [(CLUSTER, {"a": "2"}, []), (ENDPOINT, {"a": "1"}, [])]


def test_what_is_new_arrives_before_what_refers_to_it(client: Client) -> None:
    both = served(
        cds={"a": "1", "b": "1", "c": "1"}, eds={"a": "1", "b": "1", "c": "1"}, lds={"l": "2"}, rds={"r": "2"}
    )

    assert client.is_served(both) == [(CLUSTER, {"c": "1"}, [])]
    assert client.asks(ENDPOINT, "c") == [(ENDPOINT, {"c": "1"}, [])]
    assert client.acknowledges(ENDPOINT) == []
    assert client.acknowledges(CLUSTER) == [(LISTENER, {"l": "2"}, [])]
    assert client.acknowledges(LISTENER) == [(ROUTE, {"r": "2"}, [])]


def test_a_cluster_goes_only_after_everything_that_may_refer_to_it(client: Client) -> None:
    fewer = served(cds={"a": "1"}, eds={"a": "1"}, lds={"l": "2"}, rds={"r": "2"})

    assert client.is_served(fewer) == [(LISTENER, {"l": "2"}, [])]
    assert client.acknowledges(LISTENER) == [(ROUTE, {"r": "2"}, [])]
    assert client.acknowledges(ROUTE) == [(CLUSTER, {}, ["b"])]


def test_a_cluster_that_nothing_refers_to_goes_at_once(client: Client) -> None:
    fewer = served(cds={"a": "1"}, eds={"a": "1"}, lds={"l": "1"}, rds={"r": "1"})

    assert client.is_served(fewer) == [(CLUSTER, {}, ["b"])]


def test_a_cluster_that_never_warms_does_not_hold_up_a_policy(client: Client) -> None:
    client.is_served(served(cds={"a": "2", "b": "1"}, eds={"a": "1", "b": "1"}, lds={"l": "2"}, rds={"r": "1"}))
    assert stream.is_waiting(client.state)

    client.state, replies = stream.on_patience_over(client.state)

    assert [told(each) for each in replies] == [(LISTENER, {"l": "2"}, [])]


def test_a_listener_s_routes_are_answered_while_the_listener_waits_for_them() -> None:
    client = Client(served(cds={}, lds={"l": "1"}, rds={"r": "1"}))
    client.asks(CLUSTER)
    client.acknowledges_all()
    client.asks(LISTENER)

    assert client.asks(ROUTE, "r") == [(ROUTE, {"r": "1"}, [])]


def test_a_name_that_is_not_there_is_answered_as_absent_and_sent_when_it_comes() -> None:
    client = Client(served(rds={}))

    assert client.asks(ROUTE, "r") == [(ROUTE, {}, ["r"])]
    client.acknowledges_all()
    assert client.is_served(served(rds={"r": "1"})) == [(ROUTE, {"r": "1"}, [])]


def test_what_was_dropped_is_not_sent_and_asking_again_brings_it_back(client: Client) -> None:
    client.asks(ENDPOINT, gone=("a",))
    changed = served(cds={"a": "1", "b": "1"}, eds={"a": "2", "b": "1"}, lds={"l": "1"}, rds={"r": "1"})

    assert client.is_served(changed) == []
    assert client.asks(ENDPOINT, "a") == [(ENDPOINT, {"a": "2"}, [])]


def test_a_client_that_comes_back_gets_only_the_differences() -> None:
    resources = served(cds={"a": "1", "b": "2"}, eds={"a": "1"})
    versions = dict(resources.of(CLUSTER).versions)
    client = Client(resources)

    assert client.asks(CLUSTER, held=versions | {"b": "of before", "gone": "of before"}) == [
        (CLUSTER, {"b": "2"}, ["gone"])
    ]
    assert client.asks(ENDPOINT, "a", held=dict(resources.of(ENDPOINT).versions)) == []
    assert client.of(ENDPOINT) is SyncState.SYNCED


def test_a_client_that_comes_back_with_everything_is_told_nothing() -> None:
    resources = served(cds={"a": "1"})
    client = Client(resources)

    assert client.asks(CLUSTER, held=dict(resources.of(CLUSTER).versions)) == []
    assert client.of(CLUSTER) is SyncState.SYNCED


def test_a_refusal_is_kept_with_its_words_until_the_resource_changes(client: Client) -> None:
    def state(content: str) -> ResourceSet:
        return served(cds={"a": "1", "b": "1"}, eds={"a": "1", "b": "1"}, lds={"l": content}, rds={"r": "1"})

    client.is_served(state("bad"))
    assert client.acknowledges(LISTENER, refusal="no such filter") == []
    assert client.of(LISTENER) is SyncState.ERROR
    assert status.of(client.state)[2].rejected == (("l", "no such filter"),)
    assert client.is_served(state("bad")) == []

    assert client.is_served(state("good")) == [(LISTENER, {"l": "good"}, [])]
    client.acknowledges_all()
    assert client.of(LISTENER) is SyncState.SYNCED


@given(bad=st.sets(st.sampled_from("abcdefgh"), min_size=1), new=st.sets(st.sampled_from("abcdefgh"), min_size=1))
def test_of_a_refused_answer_the_good_resources_land_and_the_bad_are_named(bad: set[str], new: set[str]) -> None:
    client = Client(served(cds=dict.fromkeys(new, "1")))
    client.asks(CLUSTER)
    landed: set[str] = set()
    while client.waiting:
        names = {each.name for each in client.waiting[0].push.changed}
        refusal = "bad" if names & bad else ""
        landed |= set() if refusal else names
        client.acknowledges(CLUSTER, refusal=refusal)

    assert landed == new - bad
    assert {name for name, _ in status.of(client.state)[0].rejected} == new & bad


def test_an_old_nonce_settles_nothing(client: Client) -> None:
    client.is_served(served(cds={"a": "2", "b": "1"}, eds={"a": "1", "b": "1"}, lds={"l": "1"}, rds={"r": "1"}))
    request = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce="1")

    after, replies = stream.on_delta_request(client.state, request)

    assert replies == []
    assert after.subscriptions[CLUSTER].pending is not None


def test_a_type_that_nobody_serves_is_left_unanswered() -> None:
    client = Client(served())

    assert client.asks("type.googleapis.com/some.Thing", "x") == []


def test_a_client_that_asks_for_too_much_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        Client(served()).asks(ROUTE, *map(str, range(stream.MAX_NAMES + 1)))


STATES = st.fixed_dictionaries(
    {
        key: st.dictionaries(st.sampled_from("abc"), st.sampled_from("123"), max_size=3)
        for key in ("cds", "eds", "lds", "rds")
    }
)


@given(states=st.lists(STATES, min_size=1, max_size=6), settle=st.lists(st.booleans(), min_size=6, max_size=6))
def test_whatever_happens_a_client_that_acknowledges_ends_up_with_the_last_state(
    states: list[dict[str, dict[str, str]]], settle: list[bool]
) -> None:
    client = Client(served(**states[0]))
    client.asks(CLUSTER)
    client.asks(LISTENER)
    for state, acknowledges in zip(states, settle, strict=False):
        client.is_served(served(**state))
        if acknowledges and client.waiting:
            client.acknowledges(client.waiting[0].type_url)
    client.acknowledges_all()

    for key, type_url in (("cds", CLUSTER), ("lds", LISTENER)):
        wanted = served(**states[-1]).of(type_url).versions
        assert dict(client.state.subscriptions[type_url].known) == dict(wanted), key
        assert client.of(type_url) is SyncState.SYNCED


def test_the_state_of_the_world_protocol_sends_everything_or_what_was_asked_for() -> None:
    resources = served(cds={"a": "1", "b": "1"}, eds={"a": "1", "b": "1"})
    state = Stream(resources=resources, delta=False)

    def ask(type_url: str, nonce: str = "", names: tuple[str, ...] = ()) -> list[tuple[str, set[str]]]:
        nonlocal state
        request = discovery_pb2.DiscoveryRequest(type_url=type_url, resource_names=names, response_nonce=nonce)
        state, replies = stream.on_request(state, request)
        return [(each.push.nonce, {one.name for one in each.push.changed}) for each in replies]

    assert ask(CLUSTER) == [("1", {"a", "b"})]
    assert ask(CLUSTER, "1") == []
    assert ask(ENDPOINT, names=("a",)) == [("2", {"a"})]
    assert ask(ENDPOINT, "2", names=("a", "b")) == [("3", {"b"})]
    assert ask(ENDPOINT, "3", names=("a", "b")) == []
    state, replies = stream.on_resources(state, served(cds={"a": "2", "b": "1"}, eds={"a": "1", "b": "2"}))
    assert [{each.name for each in reply.push.changed} for reply in replies] == [{"a", "b"}, {"a", "b"}]
    message = discovery_pb2.DiscoveryResponse.FromString(wire.state_of_the_world(replies[0]))
    assert len(message.resources) == 2


def test_a_state_of_the_world_client_that_comes_back_with_the_same_version_is_told_nothing() -> None:
    resources = served(cds={"a": "1"})
    request = discovery_pb2.DiscoveryRequest(type_url=CLUSTER, version_info=resources.of(CLUSTER).digest)

    _, replies = stream.on_request(Stream(resources=resources, delta=False), request)

    assert replies == []
