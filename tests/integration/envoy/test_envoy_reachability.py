"""Istio's reachability tests between real Envoys: who reaches whom, and whether by mutual TLS."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from cryptography import x509
from envoy_pods import Mesh, Pod, can_make_networks, mesh

from mutua.api import decode
from mutua.api.kinds import AnyObject
from mutua.api.meshconfig import MeshConfig
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import ProxyView
from mutua.mesh.view import Proxy, for_proxy
from mutua.xds import rollout

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors" / "reachability.jsonl"
APPLICATION = Path(__file__).with_name("envoy_reachability_application.py")
NAMESPACE = "echo1"
SERVICE_ADDRESS = "10.10.0.9"
ADDRESSES = {("client", True): "10.9.0.1", ("server", True): "10.9.0.2"}
ADDRESSES |= {("client", False): "10.9.0.3", ("server", False): "10.9.0.4"}

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.linux,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root"),
    pytest.mark.skipif(not VECTORS.exists(), reason="conformance vectors not present"),
]

WORKERS_SECONDS = 0.05
"""Envoy acknowledges before its workers have taken a change over."""

DRAINED_SECONDS = 7.0
Outcome = tuple[str, bool | None]
"""success or fail; whether the server saw who called, None where that cannot be seen."""

GRPC = """
import grpc, sys
with grpc.insecure_channel(sys.argv[1]) as channel:
    print(channel.unary_unary("/any.Service/Method")(b"hello", timeout=4).decode())
"""
BYTES = """
import socket, sys
host, port = sys.argv[1].split(":")
with socket.create_connection((host, int(port)), 4) as client:
    client.sendall(b"these are not http\\r\\n")
    print(client.recv(100).decode())
"""


class Case(NamedTuple):
    """One call, and what both ends are told; equal cases are one."""

    client: ProxyView | None
    server: ProxyView | None
    scheme: str
    target: str
    expect: str
    mutual: bool | None
    ids: tuple[str, ...]


def case(vector: Mapping[str, Any]) -> Case:
    """The vector among pods of our own network."""
    sides = {side: bool(vector[side].get("sidecar")) for side in ("client", "server")}
    own = ADDRESSES["server", sides["server"]]
    # Servers that differ by nothing but their names are one, called `server`.
    name = vector["server"]["name"]
    config = json.dumps(vector["config"]).replace("10.0.0.10", own)
    config = config.replace(f'"{name}"', '"server"').replace(f'"{name}.{NAMESPACE}', f'"server.{NAMESPACE}')
    objects = [_read(manifest) for manifest in json.loads(config)]
    port = vector["port"]
    for side, has_sidecar in sides.items():
        objects += _deployed(side, vector[side], ADDRESSES[side, has_sidecar], port)
    snapshot = build.snapshot(ObjectSet.of(objects), MeshConfig(), upstream_mark=1337)
    views = {side: for_proxy(snapshot, Proxy(NAMESPACE, side)) if sides[side] else None for side in sides}
    # Only sidecars know the Service's address here: for others the node would lead to the pod.
    is_direct = vector["kind"] == "passthrough" or vector["server"].get("headless") or not sides["client"]
    number = port["workloadPort"] if is_direct else port["servicePort"]
    scheme = vector.get("scheme") or port["protocol"].lower()
    target = f"{own if is_direct else SERVICE_ADDRESS}:{number}"
    mutual = vector.get("expectMtls") if scheme == "http" and vector["kind"] == "reachability" else None
    return Case(views["client"], views["server"], scheme, target, vector["expect"], mutual, (vector["id"],))


def _read(manifest: Mapping[str, Any]) -> AnyObject:
    decoded = decode.any_from_mapping(manifest)
    assert decoded.value is not None, decoded.findings
    return decoded.value


def _deployed(side: str, echo: Mapping[str, Any], address: str, port: Mapping[str, Any]) -> Iterable[AnyObject]:
    """Pod, Service and slice."""
    metadata = {"namespace": NAMESPACE, "name": side, "labels": {"app": side}}
    containers = [{"name": "app"}, *([{"name": "istio-proxy"}] if echo.get("sidecar") else [])]
    spec: dict[str, Any] = {"containers": containers, "serviceAccountName": side}
    status = {"phase": "Running", "podIP": address}
    yield _read({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
    if side == "client" or not port.get("servicePort"):
        return
    labels = {"kubernetes.io/service-name": side}
    ports = [{"name": port["name"], "port": port["servicePort"], "targetPort": port["workloadPort"]}]
    cluster_ip = "None" if echo.get("headless") else SERVICE_ADDRESS
    spec = {"clusterIP": cluster_ip, "selector": {"app": side}, "ports": ports}
    yield _read({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    yield _read(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata | {"labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": [{"name": port["name"], "port": port["workloadPort"]}],
        }
    )


@cache
def vectors() -> dict[str, list[Mapping[str, Any]]]:
    """Every vector that needs no VirtualService, by the set of policies that it is about."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in VECTORS.read_text().splitlines() if VECTORS.exists() else ():
        vector = json.loads(line)
        if vector["kind"] in ("reachability", "passthrough") and "subsets" not in vector["server"]:
            found.setdefault("/".join(vector["id"].split("/")[:2]), []).append(vector)
    return found


def cases(family: Iterable[Mapping[str, Any]]) -> list[Case]:
    """Each call once, those between the same ends together."""
    found: dict[tuple[Any, ...], Case] = {}
    for vector in family:
        made = case(vector)
        known = found.setdefault(made[:-1], made._replace(ids=()))
        found[made[:-1]] = known._replace(ids=(*known.ids, *made.ids))
    order = {view: number for number, view in enumerate({key[1]: None for key in found})}
    return sorted(found.values(), key=lambda each: (order[each.server], hash(each.client)))


class Echoes:
    """A client and a server with a sidecar each, and one of each without."""

    def __init__(self, mesh: Mesh, certificate: Path) -> None:
        self.mesh, self.certificate = mesh, certificate
        self.pods: dict[tuple[str, bool], Pod] = {}

    async def start(self, first: dict[str, ProxyView]) -> None:
        """All four."""
        for (side, has_sidecar), address in ADDRESSES.items():
            name = side if has_sidecar else f"{side}-bare"
            view = first[side] if has_sidecar else None
            pod = await self.mesh.pod(name, address, view, account=side, namespace=NAMESPACE)
            pod.start(sys.executable, str(APPLICATION), str(self.certificate))
            self.pods[side, has_sidecar] = pod

    async def outcome(self, called: Case) -> Outcome:
        """What becomes of the call once both ends have what they are told.

        A connection that was made before may be used until it is drained, so what differs is tried again meanwhile.
        """
        for side, view in (("server", called.server), ("client", called.client)):
            if view is not None:
                self.mesh.views[side, NAMESPACE] = view
        await self.mesh.xds.publish()
        async with asyncio.timeout(2 * rollout.BOUND_SECONDS):
            await self.mesh.until(lambda: self.mesh.xds.settled)
        await asyncio.sleep(WORKERS_SECONDS)
        until = asyncio.get_running_loop().time() + DRAINED_SECONDS
        while (found := await self._ask(called)) != (called.expect, called.mutual):
            if asyncio.get_running_loop().time() > until:
                break
            await asyncio.sleep(0.5)
        return found

    async def _ask(self, called: Case) -> Outcome:
        client = self.pods["client", called.client is not None]
        host = "server.echo1.svc.cluster.local"
        if called.scheme in ("grpc", "http2"):
            answer = await client.python(GRPC, called.target)
            return ("success" if "hello" in answer.text else "fail"), None
        if called.scheme == "tcp":
            answer = await client.python(BYTES, called.target)
            return ("success" if "echo these" in answer.text else "fail"), None
        options = ["-k", "-H", f"host: {host}", "--no-progress-meter"]
        if called.scheme == "ws":
            options += ["-H", "connection: upgrade", "-H", "upgrade: websocket"]
        scheme = "https" if called.scheme == "https" else "http"
        answer = await client.curl(f"{scheme}://{called.target}/", *options)
        succeeds = answer.status == (101 if called.scheme == "ws" else 200)
        mutual = None if called.mutual is None else "x-forwarded-client-cert" in answer.body
        return ("success" if succeeds else "fail"), mutual


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def echoes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Echoes]:
    directory: Path = tmp_path_factory.mktemp("reachability")
    async with mesh(directory) as made:
        issued = made.authority.issue(x509.DNSName("server"))
        certificate = directory / "application.pem"
        certificate.write_bytes(issued.key + issued.chain)
        running = Echoes(made, certificate)
        nothing = case(next(iter(vectors().values()))[0])
        assert nothing.client is not None and nothing.server is not None
        await running.start({"client": nothing.client, "server": nothing.server})
        yield running


@pytest.mark.parametrize("family", vectors())
async def test_calls_come_about_between_real_envoys_as_in_istio(
    echoes: Echoes, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "CALM_SECONDS", 0.0)  # nothing is asked meanwhile
    differing = []
    for each in cases(vectors()[family]):
        outcome = await echoes.outcome(each)
        if outcome != (each.expect, each.mutual):
            differing.append((each.ids, each.scheme, each.target, outcome, (each.expect, each.mutual)))
    assert differing == []
