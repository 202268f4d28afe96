"""ServiceEntries and WorkloadEntries are accepted and refused as Istio does. Source: its ValidateServiceEntry."""

from typing import Any

import pytest

from mutua.api import decode, kinds
from mutua.api.findings import Finding, Severity
from mutua.api.validation import validate

HTTP = {"number": 80, "name": "http", "protocol": "HTTP"}
TLS = {"number": 443, "name": "tls", "protocol": "TLS"}
TCP = {"number": 1234, "name": "tcp", "protocol": "tcp"}


def findings_of(kind_name: str, spec: dict[str, Any]) -> list[Finding]:
    kind = kinds.by_name(kind_name)
    assert kind is not None
    decoded = decode.from_mapping(kind, {"metadata": {"name": "name", "namespace": "apps"}, "spec": spec})
    return [*decoded.findings, *(validate(decoded.value) if decoded.value is not None else ())]


def said(kind_name: str, spec: dict[str, Any], severity: Severity) -> list[str]:
    return [f"{item.field}: {item.message}" for item in findings_of(kind_name, spec) if item.severity is severity]


@pytest.mark.parametrize(
    "spec",
    [
        {"hosts": ["*.google.com"], "ports": [HTTP]},
        {"hosts": ["google.com", "www.google.com"], "ports": [HTTP, TLS], "resolution": "DNS"},
        {"hosts": ["google.com"], "ports": [TCP], "addresses": ["172.1.2.16/16"], "resolution": "STATIC"},
        {"hosts": ["google.com"], "addresses": ["2001:db8::/32", "1.2.3.4"], "ports": [HTTP], "resolution": "NONE"},
        {
            "hosts": ["google.com"],
            "ports": [HTTP],
            "resolution": "DNS",
            "endpoints": [{"address": "lon.google.com", "ports": {"http": 8080}}, {"address": "10.0.0.1"}],
        },
        {"hosts": ["mesh.test"], "location": "MESH_INTERNAL", "ports": [HTTP], "resolution": "STATIC",
         "workloadSelector": {"labels": {"app": "vm"}}},
        {"hosts": ["google.com"], "ports": [{**HTTP, "targetPort": 8080}], "resolution": "DNS", "exportTo": ["."]},
        {"hosts": ["google.com"], "ports": [{**HTTP, "targetPort": 8080}], "resolution": "NONE"},
    ],
)  # fmt: skip
def test_what_istio_accepts_is_accepted(spec: dict[str, Any]) -> None:
    assert said("ServiceEntry", spec, Severity.ERROR) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"hosts": []}, "spec.hosts: expected `array` of length >= 1"),
        ({"hosts": ["*"]}, "spec.hosts[0]: invalid host *"),
        ({"hosts": ["-.com"]}, "spec.hosts[0]: invalid host '-.com': a name of labels with 1 to 63 letters, digits"),
        ({"addresses": ["10.0.0.333"]}, "spec.addresses[0]: bad IP address (10.0.0.333)"),
        ({"addresses": ["10.0.0.0/8"]}, "spec.addresses: CIDR addresses are allowed only for NONE/STATIC"),
        ({"ports": [HTTP, {**TLS, "name": "http"}]}, "spec.ports[1].name: service entry port name 'http' already"),
        ({"ports": [HTTP, {**TLS, "number": 80}]}, "spec.ports[1].number: service entry port 80 already defined"),
        ({"ports": [{**HTTP, "protocol": "gopher"}]}, "spec.ports[0].protocol: unsupported protocol: gopher"),
        ({"ports": [{**HTTP, "number": 65536}]}, "spec.ports[0].number: expected `int` <= 65535"),
        ({"ports": [{**HTTP, "name": "a_b"}]}, "spec.ports[0].name: invalid port name: 'a_b'"),
        ({"hosts": ["a.com", "b.com"], "ports": [TCP]}, "spec.hosts: multiple hosts provided with non-HTTP, non-TLS"),
        ({"hosts": ["*.a.com"]}, "spec.hosts[0]: hosts must be FQDN if no endpoints are provided"),
        ({"resolution": "NONE", "endpoints": [{"address": "1.1.1.1"}]}, "spec.endpoints: no endpoints should be"),
        (
            {"resolution": "DNS_ROUND_ROBIN", "endpoints": [{"address": "a.com"}, {"address": "b.com"}]},
            "spec.endpoints: there must only be 0 or 1 endpoint for resolution mode DNS_ROUND_ROBIN",
        ),
        ({"resolution": "DYNAMIC_DNS"}, "spec.resolution: DYNAMIC_DNS is not supported"),
        (
            {"resolution": "STATIC", "endpoints": [{"address": "google.com"}]},
            "spec.endpoints[0].address: endpoint address 'google.com' is not a valid IP address",
        ),
        (
            {"endpoints": [{"address": "*.google.com"}]},
            "spec.endpoints[0].address: endpoint address '*.google.com' is not a valid FQDN or an IP address",
        ),
        ({"endpoints": [{}]}, "spec.endpoints[0].address: address is required"),
        (
            {"endpoints": [{"address": "1.1.1.1", "ports": {"other": 80}}]},
            "spec.endpoints[0].ports.other: endpoint port 80 is not defined by the service entry",
        ),
        (
            {"endpoints": [{"address": "1.1.1.1"}], "workloadSelector": {"labels": {"app": "a"}}},
            "spec.endpoints: only one of WorkloadSelector or Endpoints is allowed in Service Entry",
        ),
        ({"workloadSelector": {"labels": {"app": "*"}}}, "spec.workloadSelector.labels: wildcard is not supported"),
        ({"exportTo": ["~"]}, "spec.exportTo[0]: exportTo '~' is not allowed here"),
        ({"location": "MOON"}, 'spec.location: Unsupported value: "MOON"'),
        ({"host": "a.com"}, "spec.host: unknown field 'host'"),
    ],
)
def test_what_istio_refuses_is_refused(change: dict[str, Any], expected: str) -> None:
    spec = {"hosts": ["google.com"], "ports": [HTTP], "resolution": "DNS"} | change
    errors = said("ServiceEntry", spec, Severity.ERROR)
    assert any(text.startswith(expected) for text in errors), errors
    assert {text.partition(":")[0] for text in errors} == {expected.partition(":")[0]}, errors


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ports": [TCP]}, "spec.addresses: addresses are required for ports of protocol TCP"),
        ({"ports": [{**HTTP, "protocol": "UDP"}]}, "spec.ports[0].protocol: UDP is not captured"),
        ({"endpoints": [{"address": "unix:///a/socket"}]}, "spec.endpoints[0].address: unix sockets are not"),
        ({"endpoints": [{"network": "other"}]}, "spec.endpoints[0].address: without an address it is not dialled"),
        ({"hosts": ["*a.com"], "resolution": "NONE"}, "spec.hosts[0]: partial wildcard '*a.com'"),
    ],
)
def test_what_is_doubtful_is_said(change: dict[str, Any], expected: str) -> None:
    spec = {"hosts": ["google.com"], "ports": [HTTP], "resolution": "DNS"} | change
    assert said("ServiceEntry", spec, Severity.ERROR) == []
    (warning,) = said("ServiceEntry", spec, Severity.WARNING)
    assert warning.startswith(expected)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"address": "2.2.2.2", "labels": {"app": "vm"}, "serviceAccount": "vm", "ports": {"http": 8080}}, ""),
        ({"address": "vm.example.com", "weight": 3, "locality": "eu/de/1"}, ""),
        ({}, "spec.address: address is required"),
        ({"address": "unix://relative"}, "spec.address: 'unix://relative' is not an absolute path"),
        ({"address": "unix:///dir/"}, "spec.address: 'unix:///dir/' is not an absolute path"),
        ({"address": "unix:///a", "ports": {"http": 1}}, "spec.ports: unix endpoint unix:///a must not include ports"),
        ({"address": "a b"}, "spec.address: endpoint address 'a b' is not a valid FQDN or an IP address"),
        ({"address": "1.1.1.1", "ports": {"a_b": 1}}, "spec.ports.a_b: invalid port name: 'a_b'"),
        ({"address": "1.1.1.1", "ports": {"http": 0}}, "spec.ports[*]: expected `int` >= 1"),
        ({"address": "1.1.1.1", "labels": {"a b": "c"}}, "spec.labels: invalid tag key: 'a b'"),
        ({"address": "1.1.1.1", "labels": {"a": "c*"}}, "spec.labels: invalid tag value: 'c*'"),
    ],
)
def test_workload_entries(spec: dict[str, Any], expected: str) -> None:
    errors = said("WorkloadEntry", spec, Severity.ERROR)
    assert (errors == []) if not expected else (len(errors) == 1 and errors[0].startswith(expected)), errors
