"""Findings about hosts outside the mesh: who owns them, TLS towards them, and the secrets for it."""

import base64

import pytest
import yaml
from analysis_worlds import found, told, world

from mutua.analysis import run
from mutua.api import decode, kinds
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet

SHOP = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.96.0.7, selector: {app: db}, ports: [{name: tcp-db, port: 3306}]}
"""


def entry(namespace: str, name: str, host: str, **spec: object) -> str:
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"hosts": [host], "ports": ports, **spec},
    }
    return "---\n" + yaml.safe_dump(document)


def rule(host: str, tls: dict[str, object], *, chosen: bool = False) -> str:
    spec: dict[str, object] = {"host": host, "trafficPolicy": {"tls": tls}}
    spec |= {"workloadSelector": {"matchLabels": {"app": "client"}}} if chosen else {}
    head = {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule"}
    return "---\n" + yaml.safe_dump({**head, "metadata": {"namespace": "shop", "name": "rule"}, "spec": spec})


def secret(name: str, **data: str) -> str:
    encoded = {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    head = {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "shop", "name": name}}
    return "---\n" + yaml.safe_dump({**head, "data": encoded})


HOST = "db.shop.svc.cluster.local"


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        (entry("evil", "db", HOST), f"{HOST} is that of Service shop/db: for clients of other namespaces the entry"),
        (entry("shop", "db", HOST), f"{HOST} is the host of Service shop/db: the entry does not count for it"),
        (entry("evil", "db", HOST, exportTo=["."]), ""),
        (entry("evil", "a", "a.test") + entry("shop", "a", "a.test"), "a.test is that of ServiceEntry evil/a"),
        (entry("evil", "a", "a.test", exportTo=["."]) + entry("shop", "a", "a.test"), ""),
        (entry("evil", "a", "a.test", addresses=["10.96.0.7"]), "Services have 10.96.0.7: connections of other"),
        (entry("evil", "a", "a.test", addresses=["10.96.0.0/12"]), "Services have 10.96.0.0/12"),
        (entry("evil", "a", "a.test", addresses=["240.0.0.0/4"]), ""),
    ],
)
def test_hosts_and_addresses_of_somebody_else(objects: str, expected: str) -> None:
    texts = [message.text for message in found(SHOP + objects, "MUT0020")]
    assert (texts == []) if not expected else (len(texts) == 1 and texts[0].startswith(expected)), texts


def test_who_applies_an_entry_for_somebody_else_s_host_hears_it() -> None:
    given = world(SHOP)
    decoded = decode.any_from_mapping(yaml.safe_load(entry("evil", "db", HOST).removeprefix("---\n")))
    assert decoded.value is not None
    findings = run.if_applied(given, build.snapshot(given.objects, given.mesh_config), decoded.value)
    assert [finding.message.rpartition("[")[2] for finding in findings if "MUT" in finding.message] == ["MUT0020]"]


TLS_PORT = {"ports": [{"number": 443, "name": "https", "protocol": "HTTPS"}]}
TCP_PORT = {"ports": [{"number": 5671, "name": "amqp", "protocol": "TCP"}], "addresses": ["240.0.0.1"]}


@pytest.mark.parametrize(
    ("spec", "tls", "code", "expected"),
    [
        (TLS_PORT, {"mode": "SIMPLE"}, "MUT0021", "encrypted once more on the way to api.test:443"),
        (TLS_PORT, {"mode": "DISABLE"}, "MUT0021", ""),
        ({}, {"mode": "SIMPLE"}, "MUT0021", ""),
        ({}, {"mode": "SIMPLE", "insecureSkipVerify": True}, "MUT0023", "anybody can answer for api.test:80"),
        ({}, {"mode": "SIMPLE"}, "MUT0023", ""),
        (TCP_PORT, {"mode": "SIMPLE"}, "MUT0023", "no name is demanded of the server at api.test:5671"),
        (TCP_PORT, {"mode": "SIMPLE", "subjectAltNames": ["api.test"]}, "MUT0023", ""),
        ({**TCP_PORT, "subjectAltNames": ["api.test"]}, {"mode": "SIMPLE"}, "MUT0023", ""),
    ],
)
def test_tls_that_is_not_what_it_looks_like(
    spec: dict[str, object], tls: dict[str, object], code: str, expected: str
) -> None:
    texts = told(entry("shop", "api", "api.test", **spec) + rule("api.test", tls), code)
    assert (texts == []) if not expected else (len(texts) == 1 and expected in texts[0]), texts


@pytest.mark.parametrize(
    ("target", "tls", "expected"),
    [
        (443, {"mode": "DISABLE"}, "requests are sent in plaintext to api.test:443 (spec.ports[0])"),
        (443, {"mode": "SIMPLE"}, ""),
        (8080, {"mode": "DISABLE"}, ""),
    ],
)
def test_requests_in_plaintext_to_a_port_of_tls(target: int, tls: dict[str, object], expected: str) -> None:
    ports = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": target}]
    texts = told(entry("shop", "api", "api.test", ports=ports) + rule("api.test", tls), "MUT0022")
    assert (texts == []) if not expected else (len(texts) == 1 and expected in texts[0]), texts


CREDENTIAL: dict[str, object] = {"mode": "SIMPLE", "credentialName": "api"}


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        (rule("api.test", CREDENTIAL), "credentialName api counts in rules with a workloadSelector only"),
        (rule("api.test", CREDENTIAL, chosen=True) + secret("other"), "secret shop/api does not exist"),
        (rule("api.test", CREDENTIAL, chosen=True), ""),  # secrets were not looked for
        (rule("api.test", CREDENTIAL, chosen=True) + secret("api", x="y"), "it has no entry cacert or ca.crt"),
        (rule("api.test", CREDENTIAL, chosen=True) + secret("api-cacert", cacert="x"), "entry cacert holds no certif"),
        (rule("api.test", CREDENTIAL | {"mode": "DISABLE"}) + secret("other"), ""),
    ],
)
def test_secrets_that_sidecars_do_not_get(objects: str, expected: str) -> None:
    texts = told(objects, "MUT0019")
    assert (texts == []) if not expected else (len(texts) == 1 and expected in texts[0]), texts


def test_manifests_alone_do_not_tell_which_secrets_are_missing() -> None:
    objects = rule("api.test", CREDENTIAL, chosen=True) + secret("other")
    assert told(objects, "MUT0019", complete=False) == []


def test_a_set_knows_the_kinds_that_were_looked_for() -> None:
    assert not ObjectSet().knows(kinds.SECRET)
    assert ObjectSet({"Secret": {}}).knows(kinds.SECRET)


MACHINE = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: shop}
spec: {address: 192.0.2.7, serviceAccount: vm, labels: {app: vm}}
"""


def policy(selected: str, principal: str) -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: policy, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {selected}}}}}
  rules: [{{from: [{{source: {{principals: [{principal}]}}}}]}}]
"""


def test_workload_entries_are_selected_and_have_identities() -> None:
    known = MACHINE + policy("vm", "cluster.local/ns/shop/sa/vm")
    assert found(known, "IST0127") == found(known, "MUT0006") == []
    unknown = MACHINE + policy("other", "cluster.local/ns/shop/sa/other")
    assert (len(found(unknown, "IST0127")), len(found(unknown, "MUT0006"))) == (1, 1)
