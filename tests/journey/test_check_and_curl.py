"""`mutua check` says beforehand what curl finds out."""

import itertools
import json
from collections.abc import Callable, Iterator

import manifests
import pytest
from journey_shell import Journey

pytestmark = pytest.mark.cluster

NAMESPACE = "checked"
HEAD = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
DENY_ADMIN = (
    HEAD
    + """
metadata: {name: no-admin, namespace: checked}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/admin, /admin/*]}}]}]}
"""
)
READERS = (
    HEAD
    + """
metadata: {name: readers, namespace: checked}
spec:
  selector: {matchLabels: {app: backend}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/checked/sa/frontend]}}]
    to: [{operation: {methods: [GET], notPaths: [/secret*]}}]
    when: [{key: "request.headers[x-team]", notValues: [red]}]
"""
)
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: checked}
spec: {mtls: {mode: STRICT}}
"""
CALLS = (
    ("GET", "/", ""),
    ("POST", "/", ""),
    ("GET", "/admin/../admin/x", ""),
    ("GET", "/%61dmin", ""),
    ("GET", "/secret/1", ""),
    ("GET", "/", "red"),
)
SETTINGS = {"nothing": ((), 1), "policies": ((DENY_ADMIN, READERS), len(CALLS)), "strict": ((STRICT,), 1)}
"""What is applied, and how many of the calls are then made."""

Eventually = Callable[[Callable[[], bool], float], None]


@pytest.fixture(scope="module")
def checked(journey: Journey) -> Iterator[Journey]:
    """A namespace with a client, a server, and a client without a sidecar."""
    journey.must("apply", "-f", "-", stdin=manifests.NAMESPACE.replace("secure-apps", NAMESPACE))
    for account in ("frontend", "backend"):
        journey.must("create", "serviceaccount", account, "-n", NAMESPACE)
        journey.must(
            "apply", "-f", "-", stdin=manifests.application(account, account).replace("secure-apps", NAMESPACE)
        )
    overrides = json.dumps({"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}})
    journey.must(
        "run", "stranger", "--image=curlimages/curl", "-n", NAMESPACE, f"--overrides={overrides}",
        "--command", "--", "sleep", "infinity",
    )  # fmt: skip
    for what in ("deployment/frontend", "deployment/backend"):
        journey.must("wait", "--for=condition=Available", what, "-n", NAMESPACE, "--timeout=60s")
    journey.must("wait", "--for=condition=Ready", "pod", "--all", "-n", NAMESPACE, "--timeout=60s")
    yield journey
    journey.must("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.mark.parametrize("setting", SETTINGS)
def test_check_says_what_curl_finds_out(checked: Journey, eventually: Eventually, setting: str) -> None:
    """For each client, method, path and header; the exit codes tell."""
    applied, count = SETTINGS[setting]
    for manifest in applied:
        checked.must("apply", "-f", "-", stdin=manifest)
    try:
        for client, (method, path, team) in itertools.product(("deploy/frontend", "stranger"), CALLS[:count]):
            headers = ("-H", f"x-team={team}") if team else ()
            words = (client, "backend", "-n", NAMESPACE, "--method", method, "--path", path, *headers)
            said = checked.mutua("check", *words)
            assert said.returncode in (0, 1), said.stderr
            curled = (
                "-X",
                method,
                "--path-as-is",
                f"http://backend{path}",
                *(("-H", f"x-team: {team}") if team else ()),
            )

            def agrees(
                allowed: bool = said.returncode == 0, client: str = client, curled: tuple[str, ...] = curled
            ) -> bool:
                code, status = checked.curl(client, *curled, namespace=NAMESPACE)
                return (code == 0 and status != 403) is allowed

            eventually(agrees, 3)
    finally:
        for manifest in applied:
            checked.must("delete", "-f", "-", stdin=manifest)


def test_the_answer_names_who_decided(checked: Journey) -> None:
    """The object and the rule, as the server's access log names it."""
    checked.must("apply", "-f", "-", stdin=DENY_ADMIN)
    try:
        said = checked.mutua(
            "check", "deploy/frontend", "svc/backend", "-n", NAMESPACE, "--path", "/admin", "-o", "json"
        )
        assert said.returncode == 1
        last = json.loads(said.stdout)["endpoints"][0]["steps"][-1]
        assert last["decidedBy"] == {"kind": "AuthorizationPolicy", "namespace": NAMESPACE, "name": "no-admin"}
        assert last["rule"] == f"ns[{NAMESPACE}]-policy[no-admin]-rule[0]"
    finally:
        checked.must("delete", "-f", "-", stdin=DENY_ADMIN)
