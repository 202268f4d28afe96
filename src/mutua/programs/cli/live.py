"""The cluster as it is now, read once: its objects, the mesh's settings, and what they mean together."""

import asyncio
import datetime

from mutua.analysis.inputs import World
from mutua.api import decode, kinds
from mutua.api.findings import Finding
from mutua.api.kinds import AnyObject, Kind
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.mesh.snapshot import MeshSnapshot
from mutua.programs.cli.main import Options
from mutua.programs.cli.version import client_version
from mutua.programs.control_plane.configuration import ConfigurationFollower
from mutua.programs.control_plane.settings import Settings
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeNotFoundError
from mutua.system.kube_resources import Resource

_CONNECTIONS = 3
"""To read a kind takes less time than to shake hands for another connection."""


async def world(kube: KubeClient, chosen: Options) -> World:
    """All objects that the mesh reads, with its settings. Raises KubeError, as when the user may not list something."""
    settings = Settings(pod_name="", namespace=chosen.istio_namespace)
    follower = ConfigurationFollower(kube, settings, client_version(), lambda: None)
    configuration, listed = await asyncio.gather(follower.load(), _everything(kube))
    return World(
        ObjectSet.of(item for objects, _ in listed for item in objects),
        configuration.mesh,
        configuration.injector,
        chosen.istio_namespace,
        is_complete=True,
        unreadable=tuple(finding for _, findings in listed for finding in findings),
        now=datetime.datetime.now(datetime.UTC),
    )


def snapshot(read: World) -> MeshSnapshot:
    """What the objects mean to the control plane: running pods only."""
    return build.snapshot(read.objects, read.mesh_config, cluster_domain=read.injector.cluster_domain)


async def _everything(kube: KubeClient) -> list[tuple[list[AnyObject], list[Finding]]]:
    """What each kind has, as `_listed` gives it."""
    few = asyncio.Semaphore(_CONNECTIONS)

    async def listed(kind: Kind) -> tuple[list[AnyObject], list[Finding]]:
        async with few:
            return await _listed(kube, kind)

    return await asyncio.gather(*(listed(kind) for kind in kinds.snapshot_inputs()))


async def _listed(kube: KubeClient, kind: Kind) -> tuple[list[AnyObject], list[Finding]]:
    """All objects of a kind, and what is wrong with those left out. A kind that is not installed has none."""
    resource = Resource(kind.group, kind.storage_version, kind.plural)
    try:
        found = (await kube.list_raw(resource)).objects
    except KubeNotFoundError:
        return [], []
    decoded = [decode.from_json(kind, bytes(raw)) for raw in found]
    return [item.value for item in decoded if item.value is not None], [
        finding for item in decoded for finding in item.findings
    ]
