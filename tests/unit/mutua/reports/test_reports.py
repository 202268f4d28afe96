"""Tables of what an Envoy says of itself; the data is a real Envoy's, with two files of its filesystem xDS."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mutua.reports import bootstrap, clusters, endpoints, envoy_dump, listeners, routes, secrets
from mutua.reports.clusters import ClusterFilter
from mutua.reports.endpoints import EndpointFilter
from mutua.reports.listeners import ListenerFilter
from mutua.reports.table import render

FOLDER = Path(__file__).parent
DUMP: dict[str, Any] = json.loads((FOLDER / "config_dump.json").read_text())
CLUSTERS: dict[str, Any] = json.loads((FOLDER / "clusters.json").read_text())
BACKEND = "outbound|80||backend.secure-apps.svc.cluster.local"


def lines(table: str) -> list[list[str]]:
    """The cells of each row, without the header."""
    return [line.split() for line in table.splitlines()[1:]]


def test_columns_as_text_tabwriter() -> None:
    """Padding belongs to all cells but the last; empty last cells leave blanks."""
    table = render(("NAME", "TYPE", "END"), [("a", "long one", ""), ("name", "b", "c")], padding=2)

    assert table == "NAME  TYPE      END\na     long one  \nname  b         c\n"


def test_secrets() -> None:
    """The workload's own certificate first; serial as 32 lower-case hexadecimal digits at least."""
    section = envoy_dump.secrets(DUMP)
    first = secrets.rows(section, datetime(2026, 11, 23, 19, tzinfo=UTC))[0]

    table = secrets.table(section, datetime(2026, 11, 23, 19, tzinfo=UTC))

    assert table.startswith("RESOURCE NAME     TYPE     STATUS     VALID CERT     SERIAL NUMBER ")
    assert [row[:2] for row in lines(table)] == [["default", "CA"], ["ROOTCA", "CA"]]
    assert first.valid
    assert len(first.serial) >= 32
    assert (first.not_before, first.not_after) == ("2026-11-23T18:25:19Z", "2026-11-23T19:26:19Z")


@pytest.mark.parametrize("moved", [timedelta(hours=-2), timedelta(hours=2)])
def test_certificates_out_of_their_time(moved: timedelta) -> None:
    """Not yet, and no longer."""
    rows = secrets.rows(envoy_dump.secrets(DUMP), datetime(2026, 11, 23, 19, tzinfo=UTC) + moved)

    assert [row.valid for row in rows] == [False, False]


def test_secrets_without_certificate() -> None:
    """Warming ones come first; their columns stay empty."""
    section = {"dynamic_warming_secrets": [{"name": "web", "secret": {"name": "web"}}]}

    assert lines(secrets.table(section, datetime.now(UTC))) == [["web", "WARMING", "false"]]
    assert secrets.table({}, datetime.now(UTC)) == secrets.NO_SECRETS


def test_clusters() -> None:
    """Names in their parts, and the rule that shaped them."""
    assert lines(clusters.table(envoy_dump.clusters(DUMP))) == [
        ["InboundPassthroughCluster", "-", "-", "-", "ORIGINAL_DST"],
        ["backend.secure-apps.svc.cluster.local", "80", "-", "outbound", "EDS", "mtls-destination.secure-apps"],
        ["xds-grpc", "-", "-", "-", "STATIC"],
    ]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (ClusterFilter(), 3),
        (ClusterFilter(host="backend.secure-apps.svc.cluster.local"), 1),
        (ClusterFilter(host="secure"), 1),
        (ClusterFilter(port=80), 1),
        (ClusterFilter(port=81), 0),
        (ClusterFilter(direction="inbound"), 0),
        (ClusterFilter(subset="v1"), 0),
    ],
)
def test_clusters_filtered(wanted: ClusterFilter, count: int) -> None:
    """By part of the host, port, direction, subset."""
    assert count == len([item for item in envoy_dump.clusters(DUMP) if wanted.accepts(item)])


def test_listeners() -> None:
    """One row per filter chain, in the words of Istio."""
    assert listeners.table(envoy_dump.listeners(DUMP)).splitlines() == [
        "ADDRESSES PORT  MATCH                                DESTINATION",
        "0.0.0.0   80    ALL                                  Route: 80",
        "127.0.0.1 25006 Trans: tls; App: TCP TLS; Addr: *:80 InboundPassthroughCluster",
        f"127.0.0.1 25006 Addr: *:80                           Cluster: {BACKEND}",
    ]


def test_listeners_in_short() -> None:
    """One row per listener, with its type; the name where tables stand together."""
    found = envoy_dump.listeners(DUMP)

    types = [row[1:] for row in lines(listeners.table(found, verbose=False))]

    assert types == [["80", "HTTP"], ["25006", "HTTP+TCP"]]
    assert lines(listeners.table(found, prefix="listener/"))[0][0] == "listener/0.0.0.0_80"


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (ListenerFilter(), 2),
        (ListenerFilter(address="127.0.0.1"), 1),
        (ListenerFilter(port=80), 1),
        (ListenerFilter(type="http+tcp"), 1),
        (ListenerFilter(type="TCP"), 0),
    ],
)
def test_listeners_filtered(wanted: ListenerFilter, count: int) -> None:
    """By address, port, type."""
    assert count == len([item for item in envoy_dump.listeners(DUMP) if wanted.accepts(item)])


PLAIN = ["http/1.0", "http/1.1", "h2c"]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({}, "ALL"),
        ({"server_names": ["a", "b"]}, "SNI: a,b"),
        ({"transport_protocol": "raw_buffer", "application_protocols": PLAIN}, "Trans: raw_buffer; App: HTTP"),
        ({"application_protocols": ["istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"]}, "App: Istio HTTP Plain"),
        ({"application_protocols": [*PLAIN, "istio-http/1.0", "istio-http/1.1", "istio-h2"]}, "App: HTTP TLS"),
        ({"application_protocols": ["x", "y"]}, "App: x,y"),
        ({"prefix_ranges": [{"address_prefix": "10.0.0.1", "prefix_len": 32}]}, "Addr: 10.0.0.1/32"),
        (
            {"prefix_ranges": [{"address_prefix": "10.0.0.1", "prefix_len": 32}], "destination_port": 80},
            "Addr: 10.0.0.1/32:80",
        ),
    ],
)
def test_matches_in_words(rule: dict[str, Any], text: str) -> None:
    """Parts in one order, lists of protocols by their name."""
    assert text == listeners.match({"filter_chain_match": rule})


def inline(*routes_: dict[str, Any], domains: tuple[str, ...] = ("*",)) -> dict[str, Any]:
    hosts = [{"domains": list(domains), "routes": list(routes_)}]
    name = "envoy.filters.network.http_connection_manager"
    return {"filters": [{"name": name, "typed_config": {"route_config": {"virtual_hosts": hosts}}}]}


def tcp(cluster: str) -> dict[str, Any]:
    return {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {"cluster": cluster}}]}


@pytest.mark.parametrize(
    ("chain", "text"),
    [
        (inline({"match": {"prefix": "/"}, "route": {"cluster": "inbound|80||"}}), "Cluster: inbound|80||"),
        (inline({"match": {"prefix": "/"}, "route": {"cluster": "OtherCluster"}}), "OtherCluster"),
        (inline({"match": {"prefix": "/healthz/ready"}, "route": {"cluster": "a"}}), "Inline Route: /healthz/ready*"),
        (inline({"match": {"path": "/x"}}, domains=("a", "b")), "Inline Route: a,b /x"),
        (tcp("BlackHoleCluster"), "Non-HTTP/Non-TCP"),
        (tcp("outbound|80||a"), "Cluster: outbound|80||a"),
        ({}, "Non-HTTP/Non-TCP"),
    ],
)
def test_destinations_in_words(chain: dict[str, Any], text: str) -> None:
    """Where a chain leads."""
    assert text == listeners.destination(chain)


def test_routes() -> None:
    """Domains that say the same are told once; what passes through is no route."""
    assert routes.table(envoy_dump.routes(DUMP)).splitlines() == [
        "NAME             VHOST NAME                                   DOMAINS                                      "
        "MATCH     VIRTUAL SERVICE",
        "inbound|80||     inbound|http|80                              *                                            "
        "/*        ",
        "80               backend.secure-apps.svc.cluster.local:80     backend, backend.secure-apps + 1 more...     "
        "/*        ",
    ]
    assert lines(routes.table(envoy_dump.routes(DUMP), verbose=False)) == [["80", "2"], ["inbound|80||", "1"]]


def test_a_host_without_routes() -> None:
    """Answers 404."""
    configuration = {"name": "80", "virtual_hosts": [{"name": "a", "domains": ["a"]}]}

    assert lines(routes.table([configuration])) == [["80", "a", "a", "/*", "404"]]


def test_endpoints() -> None:
    """As the Envoy sees them, by address."""
    assert lines(endpoints.table(endpoints.selected(CLUSTERS, EndpointFilter()))) == [
        ["10.244.0.5:80", "HEALTHY", "OK", BACKEND],
        ["10.244.0.6:80", "HEALTHY", "OK", BACKEND],
        ["127.0.0.1:15012", "HEALTHY", "OK", "xds-grpc"],
    ]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (EndpointFilter(address="10.244.0.5"), 1),
        (EndpointFilter(port=80), 2),
        (EndpointFilter(cluster="xds-grpc"), 1),
        (EndpointFilter(status="healthy"), 3),
        (EndpointFilter(status="UNHEALTHY"), 0),
    ],
)
def test_endpoints_filtered(wanted: EndpointFilter, count: int) -> None:
    """By address, port, cluster, health in any case."""
    assert count == len(lines(endpoints.table(endpoints.selected(CLUSTERS, wanted))))


def test_assignments() -> None:
    """The endpoints as the control plane sent them."""
    table = endpoints.assignments_table(endpoints.of_dump(DUMP))

    assert ["10.244.0.5:80", "HEALTHY", BACKEND] in lines(table)


def test_bootstrap() -> None:
    """Three versions."""
    assert bootstrap.table(envoy_dump.bootstrap(DUMP)) == (
        "Istio Version:       0.1.0\nIstio Proxy Version: abc\nEnvoy Version:       1.40.0/Clean/RELEASE/BoringSSL\n"
    )
