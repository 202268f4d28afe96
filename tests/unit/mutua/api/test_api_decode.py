"""Whatever was written: an object, or findings with the path of the field. Nothing is raised."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutua.api import decode, kinds
from mutua.api.core import Secret
from mutua.api.discovery import EndpointSlice
from mutua.api.networking import DestinationRule
from mutua.api.security import PeerAuthentication
from mutua.mesh import build
from mutua.mesh.proxy_view import MeshView
from mutua.mesh.snapshot import Settings

PEER = kinds.PEER_AUTHENTICATION
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "spec", "mtls", "mode", "selector", "rules", "from", "host", "name", "status", "data"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def fields(decoded: decode.Decoded[Any]) -> list[tuple[str, str]]:
    return [(finding.field, finding.message) for finding in decoded.findings]


def test_all_mistakes_are_told_at_once() -> None:
    manifest = {
        "metadata": {"name": "a", "namespace": "b"},
        "spec": {"mtls": {"mode": "BLAH"}, "mtsl": {}, "selector": {"matchLabels": 3}},
    }
    decoded = decode.from_mapping(PEER, manifest)
    assert decoded.value is None
    assert sorted(fields(decoded)) == [
        ("spec.mtls.mode", 'Unsupported value: "BLAH"'),
        ("spec.mtsl", "unknown field 'mtsl'"),
        ("spec.selector.matchLabels", "expected `object`, got `int`"),
    ]
    assert {(finding.kind, finding.namespace, finding.name) for finding in decoded.findings} == {
        ("PeerAuthentication", "b", "a")
    }


def test_an_unknown_field_of_ours_is_told_and_the_rest_is_read() -> None:
    decoded = decode.from_json(
        PEER, b'{"metadata":{"name":"a","managedFields":[{}]},"spec":{"x":1,"mtls":{"mode":"STRICT"}}}'
    )
    assert isinstance(decoded.value, PeerAuthentication)
    assert decoded.value.spec.mtls is not None and decoded.value.spec.mtls.mode == "STRICT"
    assert fields(decoded) == [("spec.x", "unknown field 'x'")]


def test_unknown_fields_of_others_are_ignored() -> None:
    decoded = decode.from_json(
        kinds.POD, b'{"metadata":{"name":"a"},"spec":{"anything":{"new":1}},"status":{"podIP":"10.0.0.1"}}'
    )
    assert decoded.value is not None and not decoded.findings


def test_a_null_is_a_field_not_given() -> None:
    data = b'{"metadata":{"name":"x","creationTimestamp":null},"endpoints":null,"ports":[{"name":null,"port":80}]}'
    decoded = decode.from_json(kinds.ENDPOINT_SLICE, data)
    assert isinstance(decoded.value, EndpointSlice)
    assert (decoded.value.endpoints, decoded.value.ports[0].name) == ((), "")
    assert decode.from_mapping(PEER, {"spec": {"mtls": None, "selector": None}}).findings == ()


def test_a_required_field_is_named() -> None:
    assert fields(decode.from_mapping(kinds.DESTINATION_RULE, {"spec": {}})) == [("spec.host", "is required")]


def test_names_of_json_are_istios() -> None:
    spec = {
        "host": "a",
        "trafficPolicy": {
            "connectionPool": {
                "http": {
                    "http1MaxPendingRequests": 1,
                    "h2UpgradePolicy": "UPGRADE",
                    "http2KeepAlive": {"interval": "1m"},
                }
            },
            "outlierDetection": {"consecutive5xxErrors": 3, "interval": "1.5s"},
            "loadBalancer": {"localityLbSetting": {"distribute": [{"from": "a", "to": {"b": 100}}]}},
        },
    }
    decoded = decode.from_mapping(kinds.DESTINATION_RULE, {"spec": spec})
    assert isinstance(decoded.value, DestinationRule) and not decoded.findings


def test_secrets_are_read_and_never_shown() -> None:
    decoded = decode.from_json(kinds.SECRET, b'{"metadata":{"name":"s"},"data":{"key":"aHVudGVyMg=="}}')
    assert isinstance(decoded.value, Secret)
    assert decoded.value.data["key"].reveal() == b"hunter2"
    assert "hunter2" not in repr(decoded) and "aHVudGVyMg" not in repr(decoded)
    wrong = decode.from_json(kinds.SECRET, b'{"data":{"key":"hunter2!"}}')
    assert wrong.value is None
    assert "illegal base64" in str(wrong.findings[0]) and "hunter2" not in repr(wrong)


def test_the_kind_is_found_by_version() -> None:
    for version in ("v1", "v1beta1"):
        manifest = {
            "apiVersion": f"security.istio.io/{version}",
            "kind": "PeerAuthentication",
            "metadata": {"name": "x"},
        }
        assert isinstance(decode.any_from_mapping(manifest).value, PeerAuthentication)
    unknown = decode.any_from_mapping({"apiVersion": "v9", "kind": "Nonsense"})
    assert fields(unknown) == [("kind", "no kind 'Nonsense' in version 'v9'")]


@pytest.mark.parametrize(
    "data", [b"", b"[", b"null", b"3", b'"x"', b"[]", b"\xff", b'{"spec":"x"}', b'{"metadata":[]}']
)
def test_garbage_is_a_finding(data: bytes) -> None:
    for kind in (PEER, kinds.SERVICE):
        decoded = decode.from_json(kind, data)
        assert decoded.value is None and decoded.findings


@given(st.sampled_from(kinds.KINDS), JSON)
def test_nothing_is_raised(kind: kinds.Kind, value: Any) -> None:
    for decoded in (decode.from_mapping(kind, value), decode.from_json(kind, json.dumps(value).encode())):
        assert decoded.value is not None or decoded.findings
    decode.any_from_mapping(value)
    decode.mesh_config(value)


def test_mesh_config_keeps_what_can_be_read() -> None:
    config, findings = decode.mesh_config(
        {
            "accessLogFile": 3,
            "trustDomain": "td",
            "meshMTLS": {"minProtocolVersion": "TLSV1_3", "ecdhCurves": ["P-256"]},
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
            "somethingElse": 1,
        }
    )
    assert (config.access_log_file, config.trust_domain, config.mesh_mtls.ecdh_curves) == ("", "td", ("P-256",))
    assert [finding.field for finding in findings] == ["accessLogFile"]


def test_trust_domains_must_be_able_to_stand_in_an_identity() -> None:
    _, findings = decode.mesh_config({"trustDomain": "a b", "trustDomainAliases": ["ok", "x@y", "UPPER"]})
    assert [finding.field for finding in findings] == ["trustDomain", "trustDomainAliases[2]"]


@pytest.mark.parametrize("status", ['{"conditions":[]}', '{"mtls":{"mode":"DISABLE"}}', '"garbage"', "[1]", "7"])
def test_a_status_is_not_read_and_makes_no_object_another(status: str) -> None:
    head = '{"apiVersion":"security.istio.io/v1","kind":"PeerAuthentication","spec":{"mtls":{"mode":"STRICT"}}'
    metadata = '"metadata":{"name":"a","namespace":"b","generation":2,"resourceVersion":'

    bare = decode.from_json(kinds.PEER_AUTHENTICATION, f'{head},{metadata}"1"}}}}'.encode())
    written = decode.from_json(kinds.PEER_AUTHENTICATION, f'{head},{metadata}"9"}},"status":{status}}}'.encode())

    assert (written, written.findings) == (bare, ())


def test_suites_and_curves_that_no_envoy_takes_are_named_and_left_out() -> None:
    """With one of them, Envoy would refuse every listener; with a suite without ECDHE, a stolen key opens the past."""
    written = {
        "cipherSuites": ["ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_AES_128_GCM_SHA256", "AES128-SHA"],
        "ecdhCurves": ["secp256r1"],
    }
    config, findings = decode.mesh_config({"meshMTLS": written})

    assert [finding.field for finding in findings] == [
        "meshMTLS.cipherSuites[1]",
        "meshMTLS.cipherSuites[2]",
        "meshMTLS.ecdhCurves[0]",
    ]
    assert "our own are used" in findings[2].message
    view = build.mesh_view(Settings(mesh_config=config))
    assert view.cipher_suites == ("ECDHE-ECDSA-AES256-GCM-SHA384",)
    assert view.ecdh_curves == MeshView().ecdh_curves
