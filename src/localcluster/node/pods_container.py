"""From a pod's container to what the runtime starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightkube.utils.quantity import parse_quantity

from localcluster.images import Image
from localcluster.node.agent_images import ImageTable
from localcluster.node.client import ApiClient
from localcluster.node.dns_files import container_files, hostname
from localcluster.node.environment import (
    MissingReferenceError,
    PodPlace,
    References,
    command_line,
    container_variables,
    service_variables,
)
from localcluster.node.logs import log_path
from localcluster.node.pods import CONFIG_ERROR, IMAGE_ERROR
from localcluster.node.probes_run import Prober
from localcluster.node.runtime import WRITABLE_BYTES, ContainerSpec, Network, Runtime
from localcluster.node.status_events import EventRecorder
from localcluster.node.termination import TerminationMessage
from localcluster.node.volumes import VolumeError
from localcluster.node.volumes_pod import PodVolumes, VolumeRoots

# Who a container is that must not be root and does not say who it is; the number that "nonroot" images use.
_NON_ROOT_USER = 65532


@dataclass(frozen=True, slots=True)
class NodeServices:
    """What every pod of the node works with."""

    client: ApiClient
    runtime: Runtime
    network: Network
    prober: Prober
    events: EventRecorder
    references: References
    images: ImageTable
    services: Mapping[Any, Mapping[str, Any]]
    roots: VolumeRoots
    logs: Path
    host_ip: str
    resolv_conf: str
    cpu_cores: int
    memory_bytes: int

    def place(self, pod_ip: str) -> PodPlace:
        """Where a pod with this address is."""
        return PodPlace(pod_ip, self.host_ip, self.cpu_cores, self.memory_bytes)


class NotStartableError(Exception):
    """A container cannot be started yet; `reason` is the waiting state's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def container_spec(
    node: NodeServices,
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    volumes: PodVolumes,
    pod_ip: str,
    run: int,
) -> ContainerSpec:
    """What the runtime gets for the `run`-th run of a container. Raises NotStartableError."""
    image = _image(node.images, container)
    metadata, spec = pod["metadata"], pod["spec"]
    try:
        service_links = spec.get("enableServiceLinks") is not False
        links = service_variables(node.services.values(), metadata["namespace"], service_links=service_links)
        variables = container_variables(pod, container, node.place(pod_ip), node.references, links)
        mounts = volumes.mounts(container, variables)
        mounts += TerminationMessage(node.roots.disk, metadata["uid"], container, run).mounts()
        argv = command_line(container, image, variables)
    except (MissingReferenceError, VolumeError, OSError) as error:
        raise NotStartableError(CONFIG_ERROR, str(error)) from error
    if not argv:
        raise NotStartableError(CONFIG_ERROR, f"no command: neither the pod nor the image {container['image']} has one")
    security: dict[str, Any] = {**(spec.get("securityContext") or {}), **(container.get("securityContext") or {})}
    user = security.get("runAsUser")
    if user is None and security.get("runAsNonRoot"):
        user = _NON_ROOT_USER
    groups: Iterable[int] = security.get("supplementalGroups") or ()
    if (group := security.get("fsGroup")) is not None:
        groups = (*groups, group)
    return ContainerSpec(
        pod_uid=metadata["uid"],
        name=container["name"],
        argv=argv,
        env={**image.env, **variables},
        working_dir=container.get("workingDir") or None,
        mounts=mounts,
        hostname=hostname(pod),
        files=container_files(pod, pod_ip, node.resolv_conf),
        root_folder=image.root_folder,
        run_as_user=user,
        run_as_group=security.get("runAsGroup"),
        supplemental_groups=tuple(groups),
        read_only_root=bool(security.get("readOnlyRootFilesystem")),
        writable_bytes=_writable_bytes(container),
        stdin=bool(container.get("stdin")),
        tty=bool(container.get("tty")),
        log_path=log_path(node.logs, metadata["namespace"], metadata["name"], metadata["uid"], container["name"], run),
        host_network=bool(spec.get("hostNetwork")),
    )


def _writable_bytes(container: Mapping[str, Any]) -> int:
    amount = ((container.get("resources") or {}).get("limits") or {}).get("ephemeral-storage")
    limit = parse_quantity(str(amount)) if amount else None
    return int(limit or WRITABLE_BYTES)


def _image(table: ImageTable, container: Mapping[str, Any]) -> Image:
    """The image; for one that is unknown, nothing but the host's programs, if the container says what to run."""
    found = table.find(container.get("image") or "")
    if isinstance(found, Image):
        return found
    if container.get("command"):
        return Image(())
    table.watch()
    raise NotStartableError(IMAGE_ERROR, found.message)
