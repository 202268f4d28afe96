"""The webhook server as the API server meets it: over TLS, with good and bad questions."""

import base64
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from fakes.serving_certificate import self_signed
from mutua.api import decode, validation
from mutua.api.findings import Finding, Severity
from mutua.injection.settings import InjectorSettings
from mutua.servers import http, webhooks
from mutua.servers.http import ServingCertificate
from mutua.system.logs import Log

POD = {"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}}


def judge(document: Mapping[str, Any]) -> tuple[Finding, ...]:
    decoded = decode.any_from_mapping(document)
    return decoded.findings if decoded.value is None else (*decoded.findings, *validation.validate(decoded.value))


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the server that trusts exactly its certificate."""
    chain, key = self_signed("localhost")
    application = webhooks.application(InjectorSettings, judge, Log("test"))
    async with http.serving(application, "127.0.0.1", 0, ServingCertificate(chain, key)) as port:
        trust = ssl.create_default_context(cadata=chain.decode())
        async with httpx2.AsyncClient(base_url=f"https://localhost:{port}", verify=trust) as client:
            yield client


def review(document: object, **request: Any) -> dict[str, Any]:
    head = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    return head | {"request": {"uid": "u1", "namespace": "web", "operation": "CREATE", "object": document} | request}


async def ask(client: httpx2.AsyncClient, path: str, document: object, **request: Any) -> dict[str, Any]:
    answer = await client.post(path, json=review(document, **request))
    assert answer.status_code == 200, answer.text
    response: dict[str, Any] = answer.json()["response"]
    assert response["uid"] == "u1"
    return response


async def test_a_pod_is_injected(client: httpx2.AsyncClient) -> None:
    """The answer is a JSON patch that adds the sidecar."""
    response = await ask(client, "/inject", POD)

    operations = json.loads(base64.b64decode(response["patch"]))
    assert response["allowed"]
    assert response["patchType"] == "JSONPatch"
    added = next(item["value"] for item in operations if item["path"] == "/spec/containers")
    assert [item["name"] for item in added] == ["web", "istio-proxy"]


async def test_the_url_may_name_cluster_and_network(client: httpx2.AsyncClient) -> None:
    """One control plane injects for several clusters."""
    response = await ask(client, "/inject/cluster/west/net/network1", POD)

    patch = base64.b64decode(response["patch"]).decode()
    assert '"ISTIO_META_CLUSTER_ID","value":"west"' in patch
    assert '"topology.istio.io/network":"network1"' in patch


async def test_a_pod_that_stays_out(client: httpx2.AsyncClient) -> None:
    """Allowed, without a patch."""
    pod = POD | {"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}}

    assert await ask(client, "/inject", pod) == {"uid": "u1", "allowed": True}


async def test_a_bad_annotation_is_refused_with_its_name(client: httpx2.AsyncClient) -> None:
    """The user sees it as the API server's answer."""
    pod = POD | {"metadata": {"annotations": {"sidecar.istio.io/proxyCPU": "lots"}}}

    response = await ask(client, "/inject", pod)

    assert not response["allowed"]
    assert "sidecar.istio.io/proxyCPU: 'lots' is not a quantity" in response["status"]["message"]


async def test_a_good_policy_passes(client: httpx2.AsyncClient) -> None:
    """Both versions of the API are one object."""
    for version in ("v1", "v1beta1"):
        policy = {
            "apiVersion": f"security.istio.io/{version}",
            "kind": "PeerAuthentication",
            "metadata": {"name": "default", "namespace": "web"},
            "spec": {"mtls": {"mode": "STRICT"}},
        }
        assert (await ask(client, "/validate", policy))["allowed"]


async def test_every_violation_is_told_with_its_field(client: httpx2.AsyncClient) -> None:
    """Not only the first."""
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "web"},
        "spec": {"mtls": {"mode": "SOMETIMES"}, "speling": 1},
    }

    response = await ask(client, "/validate", policy)

    assert not response["allowed"]
    assert response["status"]["code"] == 422
    causes = {cause["field"]: cause["message"] for cause in response["status"]["details"]["causes"]}
    assert {"spec.mtls.mode", "spec.speling"} == causes.keys()
    assert all(field in response["status"]["message"] for field in causes)


async def test_doubts_become_warnings() -> None:
    """kubectl prints them; the object is stored."""
    doubt = Finding("PeerAuthentication", "web", "default", "spec", "x" * 500, Severity.WARNING, "do this")
    application = webhooks.application(InjectorSettings, lambda _document: (doubt,), Log("test"))
    transport = httpx2.ASGITransport(application)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await ask(client, "/validate", {"kind": "PeerAuthentication"})

    assert response["allowed"]
    assert len(response["warnings"][0]) == 256


async def test_deletion_has_no_object(client: httpx2.AsyncClient) -> None:
    """Nothing to judge."""
    assert (await ask(client, "/validate", None, operation="DELETE"))["allowed"]


@pytest.mark.parametrize("path", ["/inject", "/validate"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"request": {}}',
        b'{"request": {"uid": 1}}',
        b'{"request": {"uid": "u"}}',
        b"\xff\x00",
    ],
)
async def test_rubbish_is_a_bad_request(client: httpx2.AsyncClient, path: str, body: bytes) -> None:
    """400 with the reason, never 500."""
    answer = await client.post(path, content=body)

    assert answer.status_code == 400
    assert answer.text


@pytest.mark.parametrize("declared", [True, False])
async def test_bodies_are_limited(client: httpx2.AsyncClient, declared: bool) -> None:
    """3 MiB, whatever length the header claims."""
    body = b" " * (webhooks.BODY_LIMIT_BYTES + 1)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    answer = await client.post("/inject", content=body if declared else chunks())

    assert answer.status_code == 413


@pytest.mark.parametrize(
    "pod",
    [
        {"spec": []},
        {"spec": {"containers": "x"}},
        {"spec": {"containers": [1]}},
        {"metadata": [], "spec": {}},
        {"metadata": {"labels": {"sidecar.istio.io/inject": 1}}},
        {"metadata": {"ownerReferences": [{"controller": True}]}},
    ],
)
async def test_misshapen_pods_do_not_run_without_sidecar(client: httpx2.AsyncClient, pod: dict[str, Any]) -> None:
    """What cannot be read is refused."""
    assert not (await ask(client, "/inject", pod))["allowed"]


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=5),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(
            some.sampled_from(["metadata", "spec", "labels", "annotations", "containers", "name", "volumes", "mtls"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=some.dictionaries(some.sampled_from(["metadata", "spec", "kind", "apiVersion"]), JSON))
async def test_no_object_makes_it_fail(document: dict[str, Any]) -> None:
    """Whatever JSON a user sends, both webhooks answer."""
    application = webhooks.application(InjectorSettings, judge, Log("test"))
    transport = httpx2.ASGITransport(application)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        for path in ("/inject", "/validate"):
            await ask(client, path, document)


async def test_the_certificate_is_replaced_while_serving() -> None:
    """New connections see the new one; the server does not stop."""
    first, second = self_signed("localhost"), self_signed("localhost")
    serving = ServingCertificate(*first)
    application = webhooks.application(InjectorSettings, judge, Log("test"))
    async with http.serving(application, "127.0.0.1", 0, serving) as port:
        for chain, _key in (first, second):
            serving.replace(chain, _key)
            trust = ssl.create_default_context(cadata=chain.decode())
            async with httpx2.AsyncClient(verify=trust) as client:
                answer = await client.post(f"https://localhost:{port}/inject", json=review(POD))
                assert answer.status_code == 200
