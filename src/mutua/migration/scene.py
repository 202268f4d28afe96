"""The cluster as it is and as it would be, and one client that the change would cut off."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from mutua.analysis.inputs import World
from mutua.mesh import build
from mutua.mesh.proxy_view import MtlsMode
from mutua.mesh.snapshot import MeshSnapshot
from mutua.migration import groups, policies
from mutua.migration.groups import Group


class Evidence(StrEnum):
    """How it is known that somebody calls."""

    SEEN = "seen"
    CONFIGURED = "configured"
    POSSIBLE = "possible"


class Obstacle(msgspec.Struct, frozen=True):
    """One client that mutual TLS would cut off, or might. `server` is a workload of the namespace, "" = any."""

    client: str
    server: str
    port: int  # 0 = any
    evidence: Evidence
    blocks: bool
    why: str
    cure: str
    connections: int = 0
    last_seen: datetime | None = None
    dry_run: str = ""  # the policy in dry run that would have refused some of the connections


class Scene(msgspec.Struct, frozen=True, eq=False):
    """The cluster now and as it would be. `node_addresses`: from where kubelets ask; `window`: how long what was seen
    counts for clients that may have been mended since.
    """

    world: World
    now: MeshSnapshot
    then: MeshSnapshot
    then_world: World
    namespace: str
    target: MtlsMode
    groups: tuple[Group, ...]
    node_addresses: frozenset[str]
    moment: datetime
    window: timedelta

    def workload_of(self, pod: str) -> str:
        """The workload of a pod of the namespace, by the pod's name, also of one that is gone; "" if it is none's."""
        exact = next((group.name for group in self.groups if pod in group.pods), "")
        return exact or max(
            (group.name for group in self.groups if pod.startswith(f"{group.name}-")), key=len, default=""
        )


def scene(
    world: World,
    namespace: str,
    target: MtlsMode,
    node_addresses: Iterable[str],
    moment: datetime,
    window: timedelta,
) -> Scene:
    """What a plan is made from."""
    domain = world.injector.cluster_domain
    now = build.snapshot(world.objects, world.mesh_config, cluster_domain=domain)
    objects = policies.as_target(world.objects, namespace, target)
    then = build.snapshot(objects, world.mesh_config, now, cluster_domain=domain)
    return Scene(
        world=world,
        now=now,
        then=then,
        then_world=msgspec.structs.replace(world, objects=objects),
        namespace=namespace,
        target=target,
        groups=groups.of_namespace(now, namespace),
        node_addresses=frozenset(node_addresses),
        moment=moment,
        window=window,
    )
