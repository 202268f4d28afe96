"""A view becomes resources: same view, same bytes; names that clients use; nothing that refers to nothing."""

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf import any_pb2
from hypothesis import given
from hypothesis import strategies as st

from mutua.envoy import names, translate
from mutua.envoy.memo import remembered
from mutua.envoy.resource_set import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    DanglingReferenceError,
    Fragment,
    combined,
)
from mutua.mesh.proxy_view import (
    ClientTls,
    ClientTlsMode,
    Endpoint,
    InboundView,
    LoadAssignment,
    MeshView,
    MtlsMode,
    ObjectRef,
    OutboundPort,
    OutboundService,
    OutboundView,
    Protocol,
    ProxyView,
    Trust,
)

HOST = "backend.shop.svc.cluster.local"
IDENTITY = "spiffe://cluster.local/ns/shop/sa/backend"
KINDS = {
    CLUSTER: cluster_pb2.Cluster,
    ENDPOINT: endpoint_pb2.ClusterLoadAssignment,
    LISTENER: listener_pb2.Listener,
    ROUTE: route_pb2.RouteConfiguration,
}


def service(
    protocol: Protocol = Protocol.HTTP,
    tls: ClientTls = ClientTls(),  # noqa: B008
    *,
    name: str = "backend",
    namespace: str = "shop",
    addresses: tuple[str, ...] = ("10.96.0.1",),
    number: int = 80,
    identities: tuple[str, ...] = (IDENTITY,),
    headless_addresses: tuple[tuple[str, int], ...] = (),
) -> OutboundService:
    rule = ObjectRef("DestinationRule", "shop", "mutual")
    port = OutboundPort(number, "", protocol, tls, rule, identities)
    return OutboundService(
        host=f"{name}.{namespace}.svc.cluster.local",
        name=name,
        namespace=namespace,
        addresses=addresses,
        ports=(port,),
        headless_addresses=headless_addresses,
    )


def view(*services: OutboundService, mesh: MeshView = MeshView(), mtls: bool = True) -> ProxyView:  # noqa: B008
    assignments = tuple(
        LoadAssignment(each.host, port.number, (Endpoint("10.244.0.2", 8080, mtls, "backend", "shop"),))
        for each in services
        for port in each.ports
    )
    outbound = OutboundView("shop", "cluster.local", services)
    accepted = InboundView(Trust(), MtlsMode.PERMISSIVE, (), (), ())
    return ProxyView(mesh=mesh, inbound=accepted, outbound=outbound, endpoints=assignments)


def told(made: ProxyView, type_url: str) -> dict[str, Any]:
    """All resources of a type, by name."""
    found = {}
    for name, each in translate.resources(made).of(type_url).resources.items():
        found[name] = KINDS[type_url]()
        any_pb2.Any.FromString(each.body).Unpack(found[name])
    return found


def cluster(made: ProxyView) -> Any:
    return told(made, CLUSTER)[f"outbound|80||{HOST}"]


def upstream(socket: Any) -> Any:
    context = tls_pb2.UpstreamTlsContext()
    socket.typed_config.Unpack(context)
    return context


def test_equal_views_are_the_very_same_resources() -> None:
    first, second = view(service()), view(service())

    assert first is not second
    for type_url in KINDS:
        assert translate.resources(first).of(type_url) is translate.resources(second).of(type_url)


def test_a_change_of_an_endpoint_s_mode_changes_endpoints_only() -> None:
    before, after = translate.resources(view(service())), translate.resources(view(service(), mtls=False))

    changed = [type_url for type_url in KINDS if before.of(type_url) != after.of(type_url)]
    assert changed == [ENDPOINT]


def test_names_and_kinds_are_those_that_operators_know() -> None:
    made = view(service(), service(Protocol.TCP, name="bytes", addresses=("10.96.0.2",)))

    assert told(made, CLUSTER).keys() == {
        f"outbound|80||{HOST}",
        "outbound|80||bytes.shop.svc.cluster.local",
        "PassthroughCluster",
        "BlackHoleCluster",
        "InboundPassthroughCluster",
    }
    assert told(made, LISTENER).keys() == {"virtualOutbound", "virtualInbound", "0.0.0.0_80", "10.96.0.2_80"}
    assert told(made, ROUTE).keys() == {"80", "InboundPassthroughCluster"}
    assert cluster(made).metadata.filter_metadata["istio"]["config"] == (
        "/apis/networking.istio.io/v1/namespaces/shop/destination-rule/mutual"
    )


def test_a_port_whose_protocol_is_unknown_has_a_listener_and_routes_of_its_own() -> None:
    made = view(service(Protocol.AUTO))

    assert told(made, LISTENER).keys() >= {"10.96.0.1_80"}
    assert told(made, ROUTE).keys() == {f"{HOST}:80", "InboundPassthroughCluster"}
    assert list(told(made, ROUTE)[f"{HOST}:80"].virtual_hosts[0].domains) == ["*"]


def test_clients_find_a_service_under_all_its_names() -> None:
    routes = told(view(service(), service(namespace="other", addresses=("10.96.0.9",))), ROUTE)["80"]
    domains = {host.name: set(host.domains) for host in routes.virtual_hosts}

    near = {"backend", "backend.shop", "backend.shop.svc", HOST, f"{HOST}.", "10.96.0.1"}
    far = {"backend.other", "backend.other.svc", "backend.other.svc.cluster.local", "10.96.0.9"}
    assert near | {f"{name}:80" for name in near} == domains[f"{HOST}:80"]
    assert far <= domains["backend.other.svc.cluster.local:80"]
    assert "backend" not in domains["backend.other.svc.cluster.local:80"]
    assert domains["allow_any"] == {"*"}


NAMES = st.sampled_from(["a", "b", "a.b", "b.a", "svc"])


@given(pairs=st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=6, unique=True))
def test_no_name_is_given_to_two_services(pairs: list[tuple[str, str]]) -> None:
    """Envoy refuses the whole of the routes otherwise."""
    services = [
        service(name=name, namespace=namespace, addresses=(f"10.96.0.{index}",))
        for index, (name, namespace) in enumerate(pairs)
    ]
    routes = told(view(*services), ROUTE)["80"]

    domains = [domain for host in routes.virtual_hosts for domain in host.domains]
    assert len(domains) == len(set(domains))


def test_automatic_mutual_tls_follows_the_endpoint() -> None:
    made = cluster(view(service()))

    assert [each.name for each in made.transport_socket_matches] == ["tlsMode-istio", "tlsMode-disabled"]
    assert not made.HasField("transport_socket")
    context = upstream(made.transport_socket_matches[0].transport_socket)
    assert context.sni == f"outbound_.80_._.{HOST}"
    assert context.max_session_keys.value == 0
    assert not made.transport_socket_matches[1].match.fields


def test_mutual_tls_by_rule_is_the_cluster_s_only_way() -> None:
    made = cluster(view(service(tls=ClientTls(mode=ClientTlsMode.ISTIO_MUTUAL, sni="other.name"))))

    assert not made.transport_socket_matches
    assert upstream(made.transport_socket).sni == "other.name"


def test_disabled_tls_is_none() -> None:
    made = cluster(view(service(tls=ClientTls(mode=ClientTlsMode.DISABLE))))

    assert not made.transport_socket_matches
    assert not made.HasField("transport_socket")


@pytest.mark.parametrize(
    ("identities", "expected"),
    [((IDENTITY,), [("exact", IDENTITY)]), ((), [("prefix", "spiffe://cluster.local/")])],
)
def test_a_server_must_be_who_it_should_be_or_at_least_of_the_mesh(
    identities: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    made = cluster(view(service(tls=ClientTls(mode=ClientTlsMode.ISTIO_MUTUAL), identities=identities)))

    validation = upstream(made.transport_socket).common_tls_context.combined_validation_context
    matchers = [each.matcher for each in validation.default_validation_context.match_typed_subject_alt_names]
    assert [(each.WhichOneof("match_pattern"), each.exact or each.prefix) for each in matchers] == expected


@pytest.mark.parametrize(
    "tls",
    [
        ClientTls(mode=ClientTlsMode.MUTUAL),
        ClientTls(mode=ClientTlsMode.MUTUAL, client_certificate="/cert.pem"),
        ClientTls(mode=ClientTlsMode.MUTUAL, private_key="/key.pem"),
        ClientTls(mode=ClientTlsMode.SIMPLE, credential_name="a-secret", credential_refused=True),
    ],
)
def test_what_is_missing_for_tls_refuses_traffic(tls: ClientTls) -> None:
    made = cluster(view(service(tls=tls)))

    assert made.type == cluster_pb2.Cluster.STATIC
    assert not made.load_assignment.endpoints


def test_tls_from_files_names_them_to_the_agent() -> None:
    tls = ClientTls(
        mode=ClientTlsMode.MUTUAL, client_certificate="/c.pem", private_key="/k.pem", ca_certificates="/ca.pem"
    )
    common = upstream(cluster(view(service(tls=tls))).transport_socket).common_tls_context

    assert [each.name for each in common.tls_certificate_sds_secret_configs] == ["file-cert:/c.pem~/k.pem"]
    validation = common.combined_validation_context.validation_context_sds_secret_config
    assert validation.name == "file-root:/ca.pem"


def test_a_headless_service_has_a_listener_per_pod() -> None:
    headless = service(Protocol.TCP, addresses=(), number=9000, headless_addresses=(("10.244.0.2", 9000),))
    made = view(headless)

    assert "10.244.0.2_9000" in told(made, LISTENER)
    endpoint = told(made, ENDPOINT)[f"outbound|9000||{HOST}"].endpoints[0].lb_endpoints[0]
    assert endpoint.metadata.filter_metadata["envoy.lb"]["address"] == "10.244.0.2"


def test_a_service_on_the_sidecar_s_own_ports_takes_nothing_over() -> None:
    made = view(service(number=15001), service(Protocol.TCP, name="other", number=15006))

    assert told(made, LISTENER).keys() == {"virtualOutbound", "virtualInbound"}


@pytest.mark.parametrize("number", [15021, 15090])
def test_an_http_service_on_a_port_that_the_sidecar_has_open_is_told_by_its_address(number: int) -> None:
    made = view(service(number=number))

    assert told(made, LISTENER).keys() >= {f"10.96.0.1_{number}"}
    assert f"0.0.0.0_{number}" not in told(made, LISTENER)
    assert told(made, ROUTE).keys() == {f"{HOST}:{number}", "InboundPassthroughCluster"}


def test_every_cluster_that_waits_for_endpoints_gets_them_even_if_there_are_none() -> None:
    made = view(service())
    empty = ProxyView(mesh=made.mesh, inbound=made.inbound, outbound=made.outbound, endpoints=())

    assert told(empty, ENDPOINT).keys() == {f"outbound|80||{HOST}"}


def test_the_mark_is_on_every_connection_that_envoy_opens() -> None:
    for name, made in told(view(service(), mesh=MeshView(upstream_mark=1337)), CLUSTER).items():
        options = made.upstream_bind_config.socket_options
        assert [(each.level, each.name, each.int_value) for each in options] == [(1, 36, 1337)], name


def test_a_reference_to_nothing_never_leaves() -> None:
    with pytest.raises(DanglingReferenceError, match="CDS 'gone'"):
        combined(Fragment(sections={}, references=frozenset({(CLUSTER, "gone")})))


@given(port=st.integers(0, 65535), host=st.text(alphabet="abc.-*", max_size=20))
def test_cluster_names_are_read_as_they_were_written(port: int, host: str) -> None:
    parsed = names.parse_cluster(names.outbound_cluster(port, host))

    assert parsed is not None
    assert (parsed.direction, parsed.port, parsed.subset, parsed.host) == ("outbound", port, "", host)


@pytest.mark.parametrize("name", ["PassthroughCluster", "xds-grpc", "a|b|c|d", "outbound|80|host"])
def test_other_clusters_names_have_no_parts(name: str) -> None:
    assert names.parse_cluster(name) is None


def test_what_is_remembered_is_found_by_identity_by_value_and_is_bounded() -> None:
    asked: list[int] = []

    @remembered(limit=2)
    def doubled(value: tuple[int]) -> int:
        asked.append(value[0])
        return value[0] * 2

    value = (1,)
    assert [doubled(value), doubled(value), doubled((int("1"),)), doubled((2,)), doubled((3,)), doubled((1,))] == [
        *(2, 2, 2, 4, 6, 2)
    ]
    assert asked == [1, 2, 3, 1]
