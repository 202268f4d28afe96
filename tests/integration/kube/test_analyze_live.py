"""`mutua analyze` on a real API server, alone and with manifests laid over what is there."""

import asyncio
from pathlib import Path

import pytest

from mutua.api import kinds
from mutua.installation import values
from mutua.programs.cli import installer
from mutua.programs.cli.main import run
from mutua.sources import kubernetes
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import NAMESPACES

POLICY = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {"name": "strict-mtls"},
    "spec": {"mtls": {"mode": "STRICT"}},
}
SECOND = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: PERMISSIVE}}
"""


@pytest.fixture
async def namespace(kube: KubeClient, request: pytest.FixtureRequest) -> str:
    """A labelled namespace of the test's own with one policy, in a cluster that knows our kinds."""
    settings = ("profile=empty", "components.base.enabled=true")
    await installer.install(kube, values.installation(values.resolve(settings=settings), "1"), lambda _: None)
    name = "analyze-" + str(request.node.name).replace("_", "-")[-40:]
    metadata = {"name": name, "labels": {"istio-injection": "enabled"}}
    await kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    await kube.create(kubernetes.resource(kinds.PEER_AUTHENTICATION), POLICY, name)
    return name


async def test_a_clean_namespace_and_a_manifest_that_would_be_ignored(
    api_server: Path, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The manifest is the younger one, since the cluster's object is there already."""
    chosen = ["analyze", "-c", str(api_server), "-n", namespace]
    assert await asyncio.to_thread(run, chosen) == 0
    told = capsys.readouterr()
    assert told.out == "\n"
    assert told.err == f"✔ No validation issues found when analyzing namespace: {namespace}.\n"

    manifest = tmp_path / "phase1.yaml"
    manifest.write_text(SECOND)
    assert await asyncio.to_thread(run, [*chosen, "--failure-threshold=Warning", str(manifest)]) == 79
    told = capsys.readouterr()
    assert told.out == (
        f"Warning [MUT0001] (PeerAuthentication {namespace}/default {manifest}:2) is ignored: {namespace}/strict-mtls"
        " (STRICT) is older and covers the same workloads; the oldest wins (edit or delete strict-mtls)\n"
    )


async def test_a_namespace_that_does_not_exist(
    api_server: Path, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is found there, and why is said."""
    assert await asyncio.to_thread(run, ["analyze", "-c", str(api_server), "-n", f"{namespace}-not"]) == 0
    assert f"Warning: there is no namespace {namespace}-not in the cluster" in capsys.readouterr().err
