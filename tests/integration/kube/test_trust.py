"""Everything about identity in one control plane, with a real API server: replicas, metrics and their alerts."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from cryptography import x509

from fakes.certificates import signing_request
from mutua.api.meshconfig import MeshConfig
from mutua.ca import issue
from mutua.ca.authority import issued
from mutua.ca.caller import Caller, Credential
from mutua.programs.control_plane.settings import Settings
from mutua.programs.control_plane.trust import Trust
from mutua.servers.identity import Report
from mutua.spiffe import SpiffeId, TrustDomain
from mutua.system import clock, keys
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import NAMESPACES

ALERTS = Path(__file__).parents[3] / "docs" / "alerts.yaml"
WEB = SpiffeId("cluster.local", "shop", "web")


async def namespace(kube: KubeClient) -> str:
    name = f"trust-{uuid4()}"
    await kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def trust(kube: KubeClient, name: str, replica: str = "istiod-0") -> Trust:
    return Trust(
        kube,
        Settings(pod_name=replica, namespace=name),
        TrustDomain("cluster.local"),
        accounts=lambda: {("shop", "web-0"): "web"},
        mesh=MeshConfig,
        addresses_of=lambda namespace, pod: (),
    )


async def test_two_control_planes_agree_on_one_root(kube: KubeClient) -> None:
    """Both start at once on an empty cluster: what either signs verifies under what the other gives out."""
    name = await namespace(kube)
    replicas = [trust(kube, name, f"istiod-{index}") for index in range(2)]
    first, second = await asyncio.gather(*(each.start("mutating", "validating") for each in replicas))

    bundles = {each.keeper.authority.root_bundle for each in replicas if each.keeper.authority}
    assert len(bundles) == 1
    (root,) = x509.load_pem_x509_certificates(bundles.pop().encode())
    for each in replicas:
        csr = signing_request(keys.generate(), [str(WEB)])
        made = issue.certificate(csr, Caller(WEB, Credential.TOKEN), each.keeper.authority, clock.now(), 7)
        assert issued(root, x509.load_pem_x509_certificate(made.chain[0].encode()))
    assert first.grpc._material.client_roots == second.grpc._material.client_roots


async def test_alerts_name_metrics_that_there_are(kube: KubeClient) -> None:
    """And every rule says how bad it is, what happened, and what to do."""
    made = trust(kube, await namespace(kube))
    await made.start("mutating", "validating")
    now = clock.now()
    made.book.take(
        Report(str(WEB), "shop", "web-0", "1f", "issuer", now, now + timedelta(days=1), None, "digest", "", 0, now)
    )
    exported = {sample.name for sample in made.samples()}
    rules: list[dict[str, Any]] = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]

    assert len({rule["alert"] for rule in rules}) == len(rules) > 0
    for rule in rules:
        named = set(re.findall(r"\bmutua_\w+\b", rule["expr"]))
        assert named, rule["alert"]
        assert named <= exported, rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "action"}
        assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= {"namespace", "pod", "identity"}
