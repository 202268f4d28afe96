"""AuthorizationPolicies that do not do what they say."""

from analysis_worlds import found, told

from mutua.api.findings import Severity

APPLICATIONS = """
apiVersion: v1
kind: Namespace
metadata: {name: secure-apps, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: secure-apps}
spec: {selector: {app: backend}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-admin, port: 9000}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend, namespace: secure-apps}
spec: {selector: {matchLabels: {app: backend}}, template: {metadata: {labels: {app: backend}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: frontend, namespace: secure-apps}
spec: {selector: {matchLabels: {app: frontend}}, template: {metadata: {labels: {app: frontend}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: jobs, namespace: secure-apps}
spec:
  selector: {matchLabels: {app: jobs}}
  template:
    metadata: {labels: {app: jobs}, annotations: {sidecar.istio.io/inject: "false"}}
    spec: {serviceAccountName: jobs}
"""
STRICT = """
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: secure-apps}
spec: {mtls: {mode: STRICT}}
"""


def policy(rules: str, action: str = "ALLOW", selector: str = "{app: backend}") -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: backend, namespace: secure-apps}}
spec:
  selector: {{matchLabels: {selector}}}
  action: {action}
  rules: {rules}
"""


def test_the_principal_that_no_pod_has() -> None:
    text = APPLICATIONS + policy('[{from: [{source: {principals: ["cluster.local/ns/secure-apps/sa/frontend"]}}]}]')
    assert told(text, "MUT0006") == [
        "AuthorizationPolicy secure-apps/backend: no pod runs as cluster.local/ns/secure-apps/sa/frontend (did you mean"
        " cluster.local/ns/secure-apps/sa/default?)"
    ]


def test_the_principal_of_a_pod_without_a_sidecar() -> None:
    text = APPLICATIONS + policy('[{from: [{source: {serviceAccounts: ["jobs"]}}]}]')
    bare = APPLICATIONS + policy('[{from: [{source: {principals: ["cluster.local/ns/secure-apps/sa/jobs"]}}]}]')
    assert "no pod proves to be jobs: jobs runs as it, and has no sidecar" in told(text, "MUT0006")[0]
    assert "jobs runs as it, and has no sidecar" in told(bare, "MUT0006")[0]


def test_the_principal_of_pods_that_may_come() -> None:
    """A job's pods are there at times only."""
    account = "\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: nightly, namespace: secure-apps}"
    text = APPLICATIONS + account + policy('[{from: [{source: {serviceAccounts: ["nightly"]}}]}]')
    assert [message.severity for message in found(text, "MUT0006")] == [Severity.INFO]
    assert told(text, "MUT0009") == []


def test_patterns_and_known_principals_are_fine() -> None:
    values = '["cluster.local/ns/secure-apps/sa/default", "*/sa/default", "cluster.local/ns/secure-apps/*", "*"]'
    text = APPLICATIONS + policy(f"[{{from: [{{source: {{principals: {values}}}}}]}}]")
    assert told(text, "MUT0006") == [] == told(text, "MUT0009")


def test_manifests_alone_do_not_tell_who_lives_elsewhere() -> None:
    text = APPLICATIONS + policy('[{from: [{source: {principals: ["cluster.local/ns/other/sa/frontend"]}}]}]')
    assert told(text, "MUT0006", complete=False) == []
    assert len(told(text, "MUT0006")) == 1


def test_identity_where_plaintext_comes_in() -> None:
    denying = policy("[{from: [{source: {namespaces: [guests]}}]}]", "DENY")
    allowing = policy("[{from: [{source: {namespaces: [secure-apps]}}]}]")
    assert [message.severity for message in found(APPLICATIONS + denying, "MUT0007")] == [Severity.WARNING]
    assert "get through" in told(APPLICATIONS + denying, "MUT0007")[0]
    assert [message.severity for message in found(APPLICATIONS + allowing, "MUT0007")] == [Severity.INFO]
    assert told(APPLICATIONS + STRICT + denying, "MUT0007") == []


def test_http_fields_on_a_tcp_port() -> None:
    denying = policy("[{to: [{operation: {methods: [POST]}}]}]", "DENY")
    assert (
        "port 9000 of backend is read as TCP, where methods cannot be seen"
        in told(APPLICATIONS + denying, "MUT0008")[0]
    )
    limited = policy('[{to: [{operation: {methods: [POST], ports: ["8080"]}}]}]', "DENY")
    assert told(APPLICATIONS + limited, "MUT0008") == []
    by_token = policy('[{when: [{key: "request.auth.claims[iss]", values: [x]}]}]')
    assert "allows nothing" in told(APPLICATIONS + by_token, "MUT0008")[0]


def test_an_allow_policy_that_denies_everything() -> None:
    service_port = policy('[{to: [{operation: {ports: ["80"]}}]}]')
    assert told(APPLICATIONS + service_port, "MUT0009") == [
        "AuthorizationPolicy secure-apps/backend: allows nothing, so every request is denied: ports 80 are none of the"
        " workload's, which listens on 8080 and 9000"
    ]
    assert found(APPLICATIONS + policy("[]"), "MUT0009")[0].severity is Severity.INFO
    assert told(APPLICATIONS + policy("[{}]"), "MUT0009") == []


def test_list_items_that_were_meant_as_one() -> None:
    apart = policy("[{from: [{source: {namespaces: [secure-apps]}}]}, {to: [{operation: {methods: [GET]}}]}]")
    together = policy("[{from: [{source: {namespaces: [secure-apps]}}], to: [{operation: {methods: [GET]}}]}]")
    assert "rules[0] has only `from` and rules[1] only `to`" in told(APPLICATIONS + apart, "MUT0010")[0]
    assert told(APPLICATIONS + together, "MUT0010") == []


def test_names_with_the_nearest_that_there_are() -> None:
    text = APPLICATIONS + policy("[{from: [{source: {namespaces: [secure-app]}}]}]", selector="{app: backnd}")
    assert told(text, "IST0101") == [
        'AuthorizationPolicy secure-apps/backend: Referenced namespace not found: "secure-app" (did you mean'
        " secure-apps?)"
    ]
    assert told(text, "IST0127")[0].endswith("labels: app=backnd (did you mean app=backend?)")
