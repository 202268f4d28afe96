"""PeerAuthentications that do not do what they say."""

from analysis_worlds import told

POLICIES = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict-mtls, namespace: secure-apps, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: secure-apps, creationTimestamp: "2026-01-02T00:00:00Z"}
spec: {mtls: {mode: PERMISSIVE}}
"""
BACKEND = """
---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: secure-apps}
spec: {selector: {app: backend}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend, namespace: secure-apps}
spec: {selector: {matchLabels: {app: backend}}, template: {metadata: {labels: {app: backend, tier: back}}}}
"""


def selecting(name: str, day: int, label: str, more: str = "") -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: secure-apps, creationTimestamp: "2026-01-0{day}T00:00:00Z"}}
spec: {{selector: {{matchLabels: {{{label}}}}}, mtls: {{mode: STRICT}}{more}}}
"""


def test_the_oldest_of_a_level_wins() -> None:
    assert told(POLICIES, "MUT0001") == [
        "PeerAuthentication secure-apps/default: is ignored: secure-apps/strict-mtls (STRICT) is older and covers the"
        " same workloads; the oldest wins (edit or delete strict-mtls)"
    ]


def test_selectors_that_meet_in_a_workload() -> None:
    text = BACKEND + selecting("first", 1, "app: backend") + selecting("second", 2, "tier: back")
    assert told(text, "MUT0001") == [
        "PeerAuthentication secure-apps/second: is ignored for backend: secure-apps/first is older and selects them"
        " too (edit or delete first)"
    ]


def test_a_selector_in_the_root_namespace() -> None:
    text = selecting("all", 1, "app: backend").replace("secure-apps", "istio-system")
    assert [line.split(":")[0] for line in told(text, "MUT0002")] == ["PeerAuthentication istio-system/all"]


def test_a_port_of_the_service_is_not_one_of_the_workload() -> None:
    service_port = selecting("ports", 1, "app: backend", ", portLevelMtls: {80: {mode: DISABLE}}")
    assert told(BACKEND + service_port, "MUT0004") == [
        "PeerAuthentication secure-apps/ports: port 80 is a port of Service backend, not of the workload, so this has"
        " no effect (write the workload's port: 8080)"
    ]
    workload_port = selecting("ports", 1, "app: backend", ", portLevelMtls: {8080: {mode: DISABLE}}")
    assert told(BACKEND + workload_port, "MUT0004") == []


def test_a_dry_run_says_what_it_would_change_and_who_is_older() -> None:
    tried = POLICIES.replace("name: default,", 'name: tried, annotations: {istio.io/dry-run: "true"},')
    permissive = tried.replace("mode: STRICT", "mode: DISABLE").replace("mode: PERMISSIVE", "mode: STRICT")
    assert told(permissive + BACKEND, "MUT0001") == []
    assert told(permissive + BACKEND, "MUT0017") == [
        "PeerAuthentication secure-apps/tried: is a dry run: it refuses nobody and changes no mode; enforced, it would"
        " make backend STRICT, were it not for secure-apps/strict-mtls, which is older and covers the same workloads"
        " (`mutua plaintext -n secure-apps` counts whom it would refuse)"
    ]
