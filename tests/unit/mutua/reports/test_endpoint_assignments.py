"""Load assignments and extension filters, as an Envoy dumps them."""

from typing import Any

import pytest

from mutua.reports import endpoints, envoy_dump
from mutua.reports.endpoints import EndpointFilter


def assignment(cluster: str, *places: tuple[str, int, str]) -> dict[str, Any]:
    entries = [
        {"endpoint": {"address": {"socket_address": {"address": ip, "port_value": port}}}, "health_status": health}
        for ip, port, health in places
    ]
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": entries}]}


WEB = assignment("web", ("10.0.0.1", 80, "HEALTHY"), ("10.0.0.2", 81, "UNHEALTHY"))


@pytest.mark.parametrize(
    ("wanted", "addresses"),
    [
        (EndpointFilter(), ["10.0.0.1", "10.0.0.2"]),
        (EndpointFilter(port=81), ["10.0.0.2"]),
        (EndpointFilter(address="10.0.0.1"), ["10.0.0.1"]),
        (EndpointFilter(status="unhealthy"), ["10.0.0.2"]),
        (EndpointFilter(cluster="other"), []),
    ],
)
def test_assignments_are_narrowed_to_the_endpoints_that_are_asked_for(
    wanted: EndpointFilter, addresses: list[str]
) -> None:
    found = endpoints.selected_assignments([WEB], wanted)
    places = [entry["endpoint"]["address"] for item in found for entry in item["endpoints"][0]["lb_endpoints"]]

    assert [place["socket_address"]["address"] for place in places] == addresses


def test_extension_filters_are_listed_with_the_type_of_their_configuration() -> None:
    entry = {"ecds_filter": {"name": "x", "typed_config": {"@type": "type.googleapis.com/envoy.test.Filter"}}}
    dump = {"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.EcdsConfigDump", "ecds_filters": [entry]}]}

    (found,) = envoy_dump.extensions(dump)

    assert (found["name"], envoy_dump.extension_type(found)) == ("x", "envoy.test.Filter")
