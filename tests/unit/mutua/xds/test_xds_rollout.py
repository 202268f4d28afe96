"""The order in which a change of mutual TLS goes out: nobody dials what nobody takes, at no moment."""

import itertools

import pytest

from mutua.mesh.proxy_view import (
    ClientTls,
    ClientTlsMode,
    Endpoint,
    InboundPort,
    InboundView,
    LoadAssignment,
    MeshView,
    MtlsMode,
    OutboundPort,
    OutboundService,
    OutboundView,
    Protocol,
    ProxyView,
    Trust,
)
from mutua.xds import rollout
from mutua.xds.rollout import BOUND_SECONDS, CALM_SECONDS, Phase, Rollout

HOST = "backend.shop.svc.cluster.local"
TAKES = {
    MtlsMode.STRICT: {True},
    MtlsMode.DISABLE: {False},
    MtlsMode.PERMISSIVE: {True, False},
}
"""Whether connections with and without mutual TLS are taken."""


def view(mode: MtlsMode, tls: ClientTlsMode = ClientTlsMode.AUTO) -> ProxyView:
    """A proxy whose workload serves the very port that it also dials."""
    port = OutboundPort(80, "http", Protocol.HTTP, ClientTls(tls), None, ())
    endpoint = Endpoint("10.0.0.1", 8080, mode is not MtlsMode.DISABLE, "backend", "shop")
    return ProxyView(
        MeshView(),
        InboundView(Trust(), mode, (), (InboundPort(8080, Protocol.HTTP, mode, HOST),), ()),
        OutboundView("shop", "cluster.local", (OutboundService(HOST, "backend", "shop", ("10.1.0.1",), (port,)),)),
        (LoadAssignment(HOST, 80, (endpoint,)),),
    )


def dials(proxy: ProxyView) -> bool:
    """Whether the proxy dials the port with mutual TLS."""
    tls = proxy.outbound.services[0].ports[0].tls.mode
    return proxy.endpoints[0].endpoints[0].mtls if tls is ClientTlsMode.AUTO else tls is ClientTlsMode.ISTIO_MUTUAL


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(MtlsMode, 2)))
def test_at_each_moment_servers_take_what_any_client_dials(before: MtlsMode, after: MtlsMode) -> None:
    """Within a phase each proxy may have what it had or what it is to have."""
    held, target = view(before), view(after)
    begun = rollout.begun(None, [(held, target)], now=0)

    for phase in (Phase.WIDEN, Phase.MOVE, None) if begun else (None,):
        given = rollout.given(phase, held, target)
        for server, client in itertools.product((held, given), repeat=2):
            assert dials(client) in TAKES[server.inbound.ports[0].mode]
            assert dials(client) in TAKES[server.inbound.default_mode]
        held = given

    assert held == target


def test_what_concerns_one_end_only_goes_out_at_once() -> None:
    permissive, strict = view(MtlsMode.PERMISSIVE), view(MtlsMode.STRICT)
    by_rule = view(MtlsMode.PERMISSIVE, ClientTlsMode.ISTIO_MUTUAL)

    assert rollout.begun(None, [(permissive, strict), (strict, permissive)], now=0) is None
    assert rollout.begun(None, [(permissive, by_rule)], now=0) is None
    assert rollout.begun(None, [(permissive, permissive)], now=0) is None


def test_a_server_and_a_client_that_change_together_change_in_order() -> None:
    """A rule for clients and a mode for servers, applied with one command."""
    client = (view(MtlsMode.PERMISSIVE, ClientTlsMode.DISABLE), view(MtlsMode.PERMISSIVE, ClientTlsMode.ISTIO_MUTUAL))
    server = (view(MtlsMode.PERMISSIVE), view(MtlsMode.STRICT))

    assert rollout.begun(None, [client, server], now=0) == Rollout(Phase.WIDEN, deadline=BOUND_SECONDS)
    assert rollout.given(Phase.WIDEN, *client) == client[0]
    assert rollout.given(Phase.WIDEN, *server).inbound == server[0].inbound
    assert rollout.given(Phase.MOVE, *client) is client[1]
    assert rollout.given(Phase.MOVE, *server).inbound == server[0].inbound


def test_ports_of_their_own_mode_are_widened_too() -> None:
    held = InboundView(Trust(), MtlsMode.PERMISSIVE, ((9000, MtlsMode.DISABLE), (9001, MtlsMode.STRICT)), (), ())
    target = InboundView(Trust(), MtlsMode.STRICT, ((9001, MtlsMode.STRICT),), (), ())

    assert rollout.widened(held, target) == InboundView(
        Trust(), MtlsMode.PERMISSIVE, ((9001, MtlsMode.STRICT),), (), ()
    )
    assert rollout.widened(target, target) == target


def test_each_phase_waits_for_calm_and_all_of_them_for_no_longer_than_the_bound() -> None:
    begun = Rollout(Phase.WIDEN, deadline=BOUND_SECONDS)
    waiting = rollout.advanced(begun, 1.0, outstanding=True)
    calm = rollout.advanced(begun, 1.0, outstanding=False)
    assert waiting == begun
    assert calm is not None
    assert (calm.phase, calm.due) == (Phase.WIDEN, 1.0 + CALM_SECONDS)

    moving = rollout.advanced(calm, calm.due, outstanding=False)
    assert moving == Rollout(Phase.MOVE, deadline=BOUND_SECONDS)
    assert rollout.advanced(moving, BOUND_SECONDS - 0.1, outstanding=True) == moving
    assert rollout.advanced(moving, BOUND_SECONDS, outstanding=True) is None
    assert rollout.advanced(Rollout(Phase.MOVE, 5.0, 1.0), 1.0 + CALM_SECONDS, outstanding=False) is None


def test_a_change_during_a_rollout_begins_anew_within_the_time_of_the_first() -> None:
    moving = Rollout(Phase.MOVE, deadline=3.0, calm_since=1.0)

    assert rollout.begun(moving, [], now=1.0) == Rollout(Phase.WIDEN, deadline=3.0)
    assert rollout.begun(moving, [], now=3.0) is None
