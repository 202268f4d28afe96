"""A call from one workload to another, step by step, with who decided."""

from typing import Any

import pytest
from test_connection import deployed, read

from mutua.api import decode
from mutua.api.kinds import AnyObject
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import ObjectRef
from mutua.verdict import call
from mutua.verdict.authorization import Answer
from mutua.verdict.call import Call, Outcome, Step
from mutua.verdict.connection import Protection
from mutua.verdict.request import HttpRequest
from mutua.verdict.tokens import Token

HOST = "server.apps.svc.cluster.local"
HTTP = {"name": "http", "servicePort": 80, "workloadPort": 8080}
TCP = {"name": "tcp", "servicePort": 80, "workloadPort": 8080}
STRICT = {"kind": "PeerAuthentication", "name": "strict", "spec": {"mtls": {"mode": "STRICT"}}}


def manifest(item: dict[str, Any]) -> AnyObject:
    group = "networking" if item["kind"] == "DestinationRule" else "security"
    metadata = {"namespace": item.get("namespace", "apps"), "name": item["name"]}
    return read(
        {"apiVersion": f"{group}.istio.io/v1", "kind": item["kind"], "metadata": metadata, "spec": item["spec"]}
    )


def echo(name: str, *, sidecar: bool = True) -> dict[str, Any]:
    return {"name": name, "namespace": "apps", "labels": {"app": name}, "sidecar": sidecar, "headless": False}


def judge(
    *config: dict[str, Any],
    client: bool = True,
    server: bool = True,
    port: dict[str, Any] = HTTP,
    direct: bool = False,
    mesh: dict[str, Any] | None = None,
    **more: Any,
) -> Outcome:
    """The outcome of a call from `client` to `server`; the booleans say who has a sidecar."""
    objects = [
        *deployed(echo("client", sidecar=client), 1, port),
        *deployed(echo("server", sidecar=server), 2, port),
        *map(manifest, config),
    ]
    mesh_config, _ = decode.mesh_config(mesh or {})
    snapshot = build.snapshot(ObjectSet.of(objects), mesh_config)
    caller, called = snapshot.workload("apps", "client"), snapshot.workload("apps", "server")
    assert caller is not None
    assert called is not None
    more.setdefault("request", HttpRequest(target="/api", authority="server"))
    where = {"server": called, "port": 8080} if direct else {"host": HOST, "port": 80}
    (outcome,) = call.judge(snapshot, Call(client=caller, **where, **more))
    return outcome


def policy(name: str, action: str, *rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"kind": "AuthorizationPolicy", "name": name, "spec": {"action": action, "rules": list(rules), **spec}}


FROM_CLIENT = {"from": [{"source": {"principals": ["cluster.local/ns/apps/sa/client"]}}]}


def test_every_step_of_an_allowed_call() -> None:
    outcome = judge(STRICT, policy("from-client", "ALLOW", FROM_CLIENT))
    assert outcome.allowed
    assert [step.step for step in outcome.steps] == [Step.CLIENT, Step.SERVER, Step.SECURE_NAMING, Step.ALLOW]
    assert [step.reason for step in outcome.steps] == [
        "mutual TLS, since the server takes it",
        "mutual TLS is accepted: port 8080 is STRICT by PeerAuthentication apps/strict",
        "the server proves to be spiffe://cluster.local/ns/apps/sa/server",
        "rule 0 of AuthorizationPolicy apps/from-client allows it",
    ]
    assert outcome.decisive.rule == "ns[apps]-policy[from-client]-rule[0]"


def test_a_client_without_sidecar_has_no_name() -> None:
    outcome = judge(policy("from-client", "ALLOW", FROM_CLIENT), client=False)
    assert outcome.decisive.step is Step.ALLOW
    assert outcome.decisive.details == (
        "ns[apps]-policy[from-client]-rule[0] from: principals wants cluster.local/ns/apps/sa/client "
        "(it is unknown: no certificate)",
    )


@pytest.mark.parametrize(
    ("config", "more", "step", "decided_by"),
    [
        ([STRICT], {"client": False}, Step.SERVER, ObjectRef("PeerAuthentication", "apps", "strict")),
        ([STRICT], {"direct": True}, Step.SERVER, ObjectRef("PeerAuthentication", "apps", "strict")),
        ([policy("no", "DENY", {})], {}, Step.DENY, ObjectRef("AuthorizationPolicy", "apps", "no")),
        ([policy("none", "ALLOW")], {}, Step.ALLOW, None),
        (
            [policy("ask", "CUSTOM", {}, provider={"name": "external"})],
            {"answers": {"external": Answer.ALLOW}},
            Step.CUSTOM,
            ObjectRef("AuthorizationPolicy", "apps", "ask"),
        ),
    ],
)
def test_the_step_that_refuses(
    config: list[dict[str, Any]], more: dict[str, Any], step: Step, decided_by: ObjectRef | None
) -> None:
    outcome = judge(*config, **more)
    assert not outcome.allowed
    assert (outcome.decisive.step, outcome.decisive.decided_by) == (step, decided_by)
    assert outcome.steps[-1] is outcome.decisive


@pytest.mark.parametrize(("answer", "allowed"), [(Answer.ALLOW, True), (Answer.DENY, False), (None, False)])
def test_an_authorizer_of_the_mesh_config_is_asked(answer: Answer | None, allowed: bool) -> None:
    """If the server's sidecar has a Service for it; here it is the server itself."""
    provider = {"name": "external", "envoyExtAuthzHttp": {"service": HOST, "port": 80}}
    ask = policy("ask", "CUSTOM", {}, provider={"name": "external"})
    answers = {"external": answer} if answer else {}
    outcome = judge(ask, mesh={"extensionProviders": [provider]}, answers=answers)
    assert outcome.allowed is allowed
    elsewhere = provider | {"envoyExtAuthzHttp": {"service": "absent.apps.svc.cluster.local", "port": 80}}
    assert not judge(ask, mesh={"extensionProviders": [elsewhere]}, answers=answers).allowed


def rule(**tls: Any) -> dict[str, Any]:
    return {"kind": "DestinationRule", "name": "rule", "spec": {"host": "server", "trafficPolicy": {"tls": tls}}}


RULE = ObjectRef("DestinationRule", "apps", "rule")


@pytest.mark.parametrize(
    ("tls", "step", "words"),
    [
        ({"mode": "ISTIO_MUTUAL", "subjectAltNames": ["spiffe://x"]}, Step.SECURE_NAMING, "the client expects"),
        ({"mode": "SIMPLE", "credentialName": "secret"}, Step.CLIENT, "credentialName secret"),
        ({"mode": "MUTUAL"}, Step.CLIENT, "without clientCertificate"),
    ],
)
def test_the_client_refuses(tls: dict[str, Any], step: Step, words: str) -> None:
    """What is asked for and not there is never replaced by less."""
    outcome = judge(rule(**tls))
    assert (outcome.allowed, outcome.decisive.step, outcome.decisive.decided_by) == (False, step, RULE)
    assert words in outcome.decisive.reason


def test_tls_of_the_clients_own_is_no_http() -> None:
    outcome = judge(rule(mode="SIMPLE"))
    assert (outcome.allowed, outcome.protection, outcome.decisive.step) == (False, Protection.TLS, Step.SERVER)
    assert judge(rule(mode="SIMPLE"), port=TCP).allowed


def test_a_server_without_sidecar_asks_nobody() -> None:
    outcome = judge(STRICT, policy("no", "DENY", {}), server=False)
    assert outcome.allowed
    assert [step.step for step in outcome.steps] == [Step.CLIENT, Step.SERVER]


def test_bytes_have_no_path() -> None:
    """On a TCP port an ALLOW rule about requests is void, and a DENY rule about requests is about everything."""
    about_path = {"to": [{"operation": {"paths": ["/other"]}}]}
    assert judge(policy("deny", "DENY", about_path)).allowed
    assert not judge(policy("deny", "DENY", about_path), port=TCP).allowed
    assert not judge(policy("allow", "ALLOW", about_path), port=TCP).allowed


TOKENS = {
    "kind": "RequestAuthentication",
    "name": "tokens",
    "spec": {"jwtRules": [{"issuer": "https://issuer", "audiences": ["api"]}]},
}
CLAIMS = {"iss": "https://issuer", "sub": "alice", "aud": "api", "exp": 1000, "nbf": 10}
WITH_TOKEN = policy("alice", "ALLOW", {"from": [{"source": {"requestPrincipals": ["https://issuer/alice"]}}]})


def test_a_token_is_seen_by_policies() -> None:
    outcome = judge(TOKENS, WITH_TOKEN, token=Token(CLAIMS))
    assert outcome.allowed
    assert [step.step for step in outcome.steps][-2:] == [Step.TOKEN, Step.ALLOW]
    assert not judge(TOKENS, WITH_TOKEN).allowed
    # Whose token nobody asks about has none.
    assert not judge(WITH_TOKEN, token=Token(CLAIMS)).allowed


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (Token(CLAIMS | {"iss": "https://other"}), "is none of https://issuer"),
        (Token(CLAIMS | {"aud": ["web"]}), "audience is none of api"),
        (Token(CLAIMS, verified=False), "signature"),
        (Token(CLAIMS | {"exp": 50}), "expired"),
        (Token(CLAIMS | {"nbf": 500}), "not valid yet"),
    ],
)
def test_a_bad_token_is_refused(token: Token, words: str) -> None:
    """Also where no policy asks for one."""
    outcome = judge(TOKENS, token=token, now=100.0)
    assert not outcome.allowed
    assert outcome.decisive.step is Step.TOKEN
    assert outcome.decisive.decided_by == ObjectRef("RequestAuthentication", "apps", "tokens")
    assert words in outcome.decisive.reason


def test_unknown_hosts() -> None:
    """A client that does not see the Service sends plaintext, or nothing."""
    config = {"defaultServiceExportTo": ["~"]}
    outcome = judge(mesh=config)
    assert (outcome.allowed, outcome.protection) == (True, Protection.NONE)
    closed = judge(mesh=config | {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}})
    assert (closed.allowed, closed.decisive.step) == (False, Step.CLIENT)


def test_nothing_answers() -> None:
    objects = deployed(echo("client"), 1, HTTP)
    snapshot = build.snapshot(ObjectSet.of(objects), decode.mesh_config({})[0])
    client = snapshot.workload("apps", "client")
    assert client is not None
    assert call.judge(snapshot, Call(client=client, host=HOST, port=80)) == ()
    assert call.judge(snapshot, Call(client=client, port=80)) == ()


@pytest.mark.vectors("reachability", kind="reachability")
def test_calls_come_about_as_in_istio(vector: dict[str, Any]) -> None:
    if "subsets" in vector["server"]:
        pytest.skip("routes to subsets need VirtualService")
    client, server, port = vector["client"], vector["server"], vector["port"]
    objects = [*deployed(client, 1, port), *deployed(server, 2, port), *map(read, vector["config"])]
    snapshot = build.snapshot(ObjectSet.of(objects), decode.mesh_config({})[0])
    caller = snapshot.workload(client["namespace"], client["name"])
    assert caller is not None
    host = f"{server['name']}.{server['namespace']}.svc.cluster.local"
    request = HttpRequest() if vector["scheme"] == "http" else None
    (outcome,) = call.judge(snapshot, Call(client=caller, host=host, port=port["servicePort"], request=request))
    assert outcome.allowed is (vector["expect"] == "success"), outcome.decisive
    if outcome.allowed:
        assert (outcome.protection is Protection.MUTUAL_TLS) is vector["expectMtls"]


@pytest.mark.vectors("reachability", kind="secure-naming")
def test_names_that_a_rule_demands_agree_with_istio(vector: dict[str, Any]) -> None:
    if not vector["config"] or "serverCertSan" in vector["server"]:
        pytest.skip("about certificates that others signed: see the tests of the authority")
    client, server, port = vector["client"], vector["server"], vector["port"] | {"workloadPort": 8080}
    objects = [*deployed(client, 1, port), *deployed(server, 2, port), *map(read, vector["config"])]
    snapshot = build.snapshot(ObjectSet.of(objects), decode.mesh_config({})[0])
    caller = snapshot.workload(client["namespace"], client["name"])
    assert caller is not None
    host = f"{server['name']}.{server['namespace']}.svc.cluster.local"

    (outcome,) = call.judge(snapshot, Call(client=caller, host=host, port=port["servicePort"], request=HttpRequest()))

    assert outcome.allowed is (vector["expect"] == "success"), outcome.decisive
