"""`mutua check` and `mutua validate` on manifests: answers, exit codes, and what is said about mistakes."""

import json
from pathlib import Path

import pytest

from mutua.programs.cli.main import run

SHOP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: frontend, namespace: shop}
spec:
  selector: {matchLabels: {app: frontend}}
  template:
    metadata: {labels: {app: frontend}}
    spec: {serviceAccountName: frontend, containers: [{name: app, image: app}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend, namespace: shop}
spec:
  selector: {matchLabels: {app: backend}}
  template:
    metadata: {labels: {app: backend}}
    spec: {containers: [{name: app, image: app}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: shop, labels: {sidecar.istio.io/inject: "false"}}
spec: {containers: [{name: app, image: app}]}
---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: shop}
spec: {selector: {app: backend}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: two-ports, namespace: shop}
spec: {selector: {app: backend}, ports: [{name: http, port: 80}, {name: tcp, port: 90}]}
---
apiVersion: v1
kind: Service
metadata: {name: nothing, namespace: shop}
spec: {selector: {app: nothing}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec:
  hosts: [api.example.com, "*.example.org"]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}, {number: 443, name: tls, protocol: TLS}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: machine, namespace: shop}
spec:
  hosts: [machine.test]
  location: MESH_INTERNAL
  resolution: STATIC
  workloadSelector: {labels: {app: machine}}
  ports: [{number: 80, name: http, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: machine, namespace: shop}
spec: {address: 192.0.2.7, serviceAccount: machine, labels: {app: machine}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: outside, namespace: shop}
spec:
  host: api.example.com
  trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec: {selector: {matchLabels: {app: machine}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: backend}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/shop/sa/frontend]}}]
    to: [{operation: {methods: [GET], paths: [/api/*]}}]
  - from: [{source: {requestPrincipals: [https://issuer/alice]}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec: {jwtRules: [{issuer: https://issuer, jwksUri: https://issuer/keys}]}
"""


@pytest.fixture
def shop(tmp_path: Path) -> list[str]:
    """Options that choose the manifests."""
    (tmp_path / "shop.yaml").write_text(SHOP)
    return ["-f", str(tmp_path), "-n", "shop"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["deploy/frontend", "api.example.com:80"], 0, "TLS, as mode SIMPLE says"),
        (["deploy/frontend", "api.example.com:443"], 0, "what the application encrypts itself stays as it is"),
        (["deploy/frontend", "www.example.org:443"], 0, "www.example.org is no workload of the mesh"),
        (["deploy/frontend", "machine.test"], 1, "shop/machine"),
        (["deploy/frontend", "backend", "--path", "/api/1"], 0, "allowed by AuthorizationPolicy shop/readers"),
        (["deploy/frontend.shop", "svc/backend.shop:80", "--path", "/api/1"], 0, "allowed by"),
        (["deploy/frontend", "backend.shop.svc.cluster.local:80", "--path", "/api/1"], 0, "allowed by"),
        (["deploy/frontend", "deploy/backend:8080", "--path", "/api/1"], 0, "allowed by"),
        (["deploy/frontend", "backend", "-X", "POST", "--path", "/api/1"], 1, "methods wants GET (it is POST)"),
        (["deploy/frontend", "backend", "--tcp", "--path", "/api/1"], 0, "GET"),
        (["stranger", "backend", "--path", "/api/1"], 1, "unknown: no certificate"),
        (["stranger", "backend", "--jwt-claims", '{"iss": "https://issuer", "sub": "alice"}'], 0, "token"),
        (["stranger", "backend", "--jwt-claims", '{"iss": "https://other"}'], 1, "refused at token"),
        (["deploy/backend", "deploy/frontend:9000"], 0, "no Service is dialled"),
    ],
)
def test_answers(words: list[str], code: int, said: str, shop: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if "--tcp" in words:
        code, said = 1, "refused at ALLOW"
        words = ["two-ports:90" if word == "backend" else word for word in words]
    assert run(["check", *words, *shop]) == code
    streams = capsys.readouterr()
    assert said in streams.out
    assert streams.err == ""


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_the_answer_as_data(output: str, shop: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "deploy/frontend", "backend", "--path", "/api/1", "-o", output, *shop]) == 0
    text = capsys.readouterr().out
    if output == "yaml":
        assert "rule: ns[shop]-policy[readers]-rule[0]" in text
        return
    document = json.loads(text)
    assert document["allowed"] is True
    (endpoint,) = document["endpoints"]
    assert endpoint["server"] == "shop/backend"
    assert endpoint["protection"] == "mutual TLS"
    assert endpoint["steps"][-1] == {
        "step": "ALLOW",
        "passed": True,
        "reason": "rule 0 of AuthorizationPolicy shop/readers allows it",
        "decidedBy": {"kind": "AuthorizationPolicy", "namespace": "shop", "name": "readers"},
        "rule": "ns[shop]-policy[readers]-rule[0]",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nobody", "backend"], "no pod is meant by 'nobody' in namespace shop"),
        (["deploy/frontend", "nobody"], "neither a Service, nor a ServiceEntry's host, nor a pod"),
        (["deploy/frontend", "api.example.com"], "needs a port: it has 80, 443"),
        (["deploy/frontend", "api.example.com:81"], "ServiceEntry shop/outside has no port 81"),
        (["deploy/frontend", "svc/nobody"], "there is no Service shop/nobody"),
        (["deploy/frontend", "backend:81"], "has no port 81"),
        (["deploy/frontend", "backend:http"], "which is no port"),
        (["deploy/frontend", "two-ports"], "needs a port: it has 80, 90"),
        (["deploy/frontend", "stranger"], "needs a port: no Service names one"),
        (["deploy/frontend", "nothing"], "has no endpoint that is ready"),
        (["secret/frontend", "backend"], "does not refer to a pod"),
        (["deploy/", "backend"], "names nothing"),
        (["deploy/frontend", "backend", "--jwt-claims", "[]"], "--jwt-claims is not a JSON object"),
        (["deploy/frontend", "backend", "--authorizer", "a=perhaps"], "is not name=answer"),
        (["deploy/frontend", "backend", "-H", "nothing"], "is not name=value"),
        (["deploy/frontend", "backend", "-o", "xml"], 'output format "xml" not supported'),
    ],
)
def test_questions_without_an_answer(
    words: list[str], said: str, shop: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", *words, *shop]) == 1
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("Error: ")
    assert said in streams.err


def test_no_answer_is_given_about_a_part_of_the_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = SHOP.replace("methods: [GET]", "method: [GET]")
    (tmp_path / "shop.yaml").write_text(broken)
    assert run(["check", "deploy/frontend", "backend", "-f", str(tmp_path), "-n", "shop"]) == 1
    assert "unknown field 'method'" in capsys.readouterr().err


WRONG = """# a comment
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: wrong, namespace: shop}
spec:
  action: DENY
  rules: [{to: [{operation: {ports: ["http", "0"], paths: ["/{*}x"]}}]}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: doubtful, namespace: shop}
spec: {selector: {}, mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: Nonsense
metadata: {name: nonsense}
---
apiVersion: v1
kind: Secret
metadata: {name: of-others}
"""


def test_everything_that_is_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By file, line and field; kinds of others are not judged."""
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG)
    assert run(["validate", "-f", str(path)]) == 1
    streams = capsys.readouterr()
    starts = [line.split(": ", 4)[:4] for line in streams.out.splitlines()]
    policy = "AuthorizationPolicy shop/wrong"
    assert starts == [
        [f"{path}:2", "Error", policy, "spec.rules[0].to[0].operation.ports[0]"],
        [f"{path}:2", "Error", policy, "spec.rules[0].to[0].operation.ports[1]"],
        [f"{path}:2", "Error", policy, "spec.rules[0].to[0].operation.paths[0]"],
        [f"{path}:9", "Warning", "PeerAuthentication shop/doubtful", "spec.selector"],
        [f"{path}:14", "Error", "Nonsense nonsense", "kind"],
    ]
    assert streams.err == "4 objects, 4 errors, 1 warnings\n"


def test_valid_manifests(shop: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", shop[1]]) == 0
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.endswith("objects, 0 errors, 0 warnings\n")


def test_standard_input_and_data(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(WRONG + "---\n{"))
    assert run(["validate", "-f", "-", "-o", "json"]) == 1
    documents = json.loads(capsys.readouterr().out)
    assert len(documents) == 6
    assert documents[0]["message"].startswith("- is not YAML: line ")
    assert documents[1]["field"] == "spec.rules[0].to[0].operation.ports[0]"


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "there is nothing to validate"), (["-f", "/none"], "/none does not exist"), (["a", "-o", "x"], "format")],
)
def test_nothing_to_validate(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", *words]) == 1
    assert said in capsys.readouterr().err
