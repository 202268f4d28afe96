"""Objects are accepted and refused as Istio does, with every violation at once."""

from typing import Any

import pytest

from mutua.api import decode, kinds
from mutua.api.findings import Finding, Severity
from mutua.api.validation import validate


def judge(kind_name: str, spec: Any, annotations: dict[str, str] | None = None) -> tuple[list[Finding], bool]:
    """Findings of decoding and validating, and whether the object could be decoded."""
    kind = kinds.by_name(kind_name)
    assert kind is not None
    metadata = {"name": "name", "namespace": "namespace", "annotations": annotations or {}}
    manifest = {"apiVersion": kind.api_version, "kind": kind_name, "metadata": metadata, "spec": spec}
    decoded = decode.from_mapping(kind, manifest)
    rules = validate(decoded.value) if decoded.value is not None else ()
    return [*decoded.findings, *rules], decoded.value is not None


def texts(findings: list[Finding], severity: Severity) -> str:
    return "\n".join(f"{finding.field}: {finding.message}" for finding in findings if finding.severity is severity)


@pytest.mark.vectors("invalid")
def test_validation_agrees_with_istio(vector: dict[str, Any]) -> None:
    findings, decoded = judge(vector["kind"], vector["spec"], vector.get("annotations"))
    errors = texts(findings, Severity.ERROR)
    assert bool(errors) is not vector["valid"], errors
    if vector["layer"] == "webhook" and decoded:
        for expected in vector.get("errors_all") or [vector.get("error_contains") or ""]:
            assert expected in errors
    expected_warning = vector.get("warning_contains")
    if expected_warning:
        assert expected_warning in texts(findings, Severity.WARNING)


def test_every_violation_is_reported_with_its_path() -> None:
    spec = {
        "selector": {"matchLabels": {"app": "*"}},
        "rules": [
            {
                "from": [{"source": {"ipBlocks": ["x"]}}],
                "to": [{"operation": {"ports": ["0", "http"]}}],
                "when": [{"key": ""}],
            }
        ],
    }
    findings, _ = judge("AuthorizationPolicy", spec)
    assert [finding.field for finding in findings] == [
        "spec.selector.matchLabels",
        "spec.rules[0].from[0].source.ipBlocks[0]",
        "spec.rules[0].to[0].operation.ports[0]",
        "spec.rules[0].to[0].operation.ports[1]",
        "spec.rules[0].when[0].key",
    ]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("AuthorizationPolicy", {}),
        (
            "AuthorizationPolicy",
            {
                "selector": {"matchLabels": {"app": "backend"}},
                "action": "ALLOW",
                "rules": [
                    {
                        "from": [{"source": {"principals": ["cluster.local/ns/secure-apps/sa/frontend"]}}],
                        "to": [{"operation": {"methods": ["GET", "POST"], "paths": ["/api/*"]}}],
                    }
                ],
            },
        ),
        ("PeerAuthentication", {"mtls": {"mode": "STRICT"}}),
        (
            "PeerAuthentication",
            {
                "selector": {"matchLabels": {"app": "legacy-service"}},
                "mtls": {"mode": "STRICT"},
                "portLevelMtls": {8080: {"mode": "PERMISSIVE"}, 9090: {"mode": "DISABLE"}},
            },
        ),
        ("DestinationRule", {"host": "*.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}),
    ],
)
def test_common_policies_are_accepted(kind: str, spec: Any) -> None:
    assert judge(kind, spec) == ([], True)


@pytest.mark.parametrize(
    ("path", "valid"),
    [
        ("/a/{*}", True),
        ("/a/{**}", True),
        ("/{**}/b", True),
        ("/{*}x", False),
        ("/{**}/{*}", False),
        ("/{**}/{**}", False),
    ],
)
def test_path_templates_are_whole_segments(path: str, valid: bool) -> None:
    findings, _ = judge("AuthorizationPolicy", {"rules": [{"to": [{"operation": {"paths": [path]}}]}]})
    assert (not findings) is valid


@pytest.mark.parametrize("kind", ["PeerAuthentication", "AuthorizationPolicy"])
def test_a_dry_run_is_written_as_a_boolean(kind: str) -> None:
    for value, accepted in (("true", True), ("0", True), ("yes", False), ("", False)):
        findings, _ = judge(kind, {}, {"istio.io/dry-run": value})
        assert [finding.field for finding in findings] == (
            [] if accepted else ["metadata.annotations[istio.io/dry-run]"]
        )
