"""CUSTOM policies: who is asked, and what happens where nobody can be."""

from typing import Any

import msgspec
import pytest
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import any_pb2

from mutua.envoy import translate
from mutua.envoy.resource_set import LISTENER, ROUTE
from mutua.mesh.proxy_view import (
    AuthorizationAction,
    AuthorizationProvider,
    ClientTls,
    EffectivePolicy,
    InboundView,
    MeshView,
    MtlsMode,
    OutboundPort,
    OutboundService,
    OutboundView,
    Protocol,
    ProxyView,
    Rule,
    Trust,
)

HOST = "authorizer.tools.svc.cluster.local"
GRPC = AuthorizationProvider("grpc", HOST, 9000, http=False)
WEB = AuthorizationProvider("web", HOST, 8000, http=True)
ELSEWHERE = AuthorizationProvider("elsewhere", "authorizer.unseen.svc.cluster.local", 9000, http=False)


def policy(provider: str, name: str = "ask", *, dry_run: bool = False) -> EffectivePolicy:
    """A policy that puts everything to a provider."""
    return EffectivePolicy("shop", name, AuthorizationAction.CUSTOM, (Rule(),), dry_run=dry_run, provider=provider)


def view(*policies: EffectivePolicy) -> ProxyView:
    """A workload with these policies that can reach the authorizer."""
    ports = tuple(OutboundPort(number, "", Protocol.GRPC, ClientTls(), None, ()) for number in (8000, 9000))
    services = (OutboundService(HOST, "authorizer", "tools", ("10.96.0.1",), ports),)
    mesh = MeshView(authorization_providers=(ELSEWHERE, GRPC, WEB))
    inbound = InboundView(Trust(), MtlsMode.STRICT, (), (), policies)
    return ProxyView(mesh, inbound, OutboundView("shop", "cluster.local", services), ())


def resource(made: ProxyView, type_url: str, name: str, kind: Any) -> Any:
    found = kind()
    any_pb2.Any.FromString(translate.resources(made).of(type_url).resources[name].body).Unpack(found)
    return found


def rules(made: ProxyView) -> tuple[list[str], list[str]]:
    """The names of rules that deny, and of those that have somebody asked."""
    route = resource(made, ROUTE, "InboundPassthroughCluster", route_pb2.RouteConfiguration)
    told = rbac_pb2.RBACPerRoute()
    route.typed_per_filter_config["authorization.custom"].Unpack(told)
    return list(told.rbac.rules.policies), list(told.rbac.shadow_rules.policies)


def filters(made: ProxyView) -> tuple[list[str], list[str]]:
    """The names of the filters for requests, and of those for bytes."""
    listener = resource(made, LISTENER, "virtualInbound", listener_pb2.Listener)
    http, tcp = [], []
    for chain in listener.filter_chains:
        last = chain.filters[-1]
        if last.name.endswith("http_connection_manager"):
            manager = http_connection_manager_pb2.HttpConnectionManager()
            last.typed_config.Unpack(manager)
            http = [each.name for each in manager.http_filters]
        elif len(chain.filters) > 1:
            tcp = [each.name for each in chain.filters[:-1]]
    return http, tcp


def test_a_provider_that_can_be_reached_is_asked_and_its_filter_is_always_there() -> None:
    asked = view(policy("grpc"))

    assert rules(asked) == ([], ["istio-ext-authz-grpc-ns[shop]-policy[ask]-rule[0]"])
    assert filters(view())[0] == filters(asked)[0]
    assert filters(asked)[0][1:4] == [
        "authorization.custom",
        "authorization.external.grpc",
        "authorization.external.web",
    ]
    assert filters(asked)[1] == ["envoy.filters.network.rbac", "envoy.filters.network.ext_authz"]


def test_a_provider_over_http_is_not_asked_about_bytes() -> None:
    assert rules(view(policy("web")))[1] == ["istio-ext-authz-web-ns[shop]-policy[ask]-rule[0]"]
    assert filters(view(policy("web")))[1] == []


@pytest.mark.parametrize(
    "policies",
    [
        (policy("unknown"),),
        (policy("elsewhere"),),
        (policy(""),),
        (policy("grpc", dry_run=True),),
        (policy("grpc"), policy("web", "other")),
    ],
)
def test_where_nobody_can_be_asked_what_matches_is_denied(policies: tuple[EffectivePolicy, ...]) -> None:
    denied, asked = rules(view(*policies))

    assert sorted(denied) == sorted(
        f"istio-ext-authz-{each.provider}-ns[shop]-policy[{each.name}]-rule[0]-deny-due-to-bad-CUSTOM-action"
        for each in policies
    )
    assert asked == []


def test_a_provider_that_leaves_takes_its_filter_along_and_its_policies_deny() -> None:
    made = view(policy("grpc"))
    without = msgspec.structs.replace(made, outbound=OutboundView("shop", "cluster.local", ()))

    assert "authorization.external.grpc" not in filters(without)[0]
    assert rules(without)[0] == ["istio-ext-authz-grpc-ns[shop]-policy[ask]-rule[0]-deny-due-to-bad-CUSTOM-action"]
