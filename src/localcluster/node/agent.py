"""The node agent: watches the API, runs its pods, answers DNS, translates service addresses, serves streams."""

import asyncio
import logging
import shutil
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from localcluster import linux
from localcluster.node import own_logs, volumes_claims
from localcluster.node.agent_images import ImageTable
from localcluster.node.agent_node import NODE_NAME, keep_lease, machine_facts, register
from localcluster.node.client import ApiClient, Object
from localcluster.node.client_informer import Informer
from localcluster.node.dns_files import DNS_ADDRESS
from localcluster.node.dns_server import DnsServer
from localcluster.node.evictions import Evictions
from localcluster.node.network import NODE_ADDRESS, SERVICE_ADDRESSES
from localcluster.node.node_ports import NodePorts
from localcluster.node.pods_container import NodeServices
from localcluster.node.pods_table import PodTable
from localcluster.node.probes_run import Prober
from localcluster.node.services_index import ServiceIndex
from localcluster.node.services_nftables import ServiceRules
from localcluster.node.status_events import EventRecorder
from localcluster.node.streaming import StreamingServer
from localcluster.node.supervisor import NodeContext
from localcluster.node.volumes_pod import VolumeRoots
from localcluster.paths import ClusterPaths

_log = logging.getLogger(__name__)
_MEMORY_FOLDER = ".memory"


async def run(context: NodeContext) -> None:
    """Run the node until `context.stopping` is set; then its pods are ended, and it returns.

    `context.report_ready` is called once the Node is Ready and pods can start. Raises OSError when the machine
    refuses what a node needs (addresses taken, no nftables).
    """
    # They tell of every request, and of commands' arguments, which may be secrets.
    for library in ("httpx2", "uvicorn"):
        logging.getLogger(library).setLevel(logging.WARNING)
    async with AsyncExitStack() as exits:
        client = ApiClient.for_cluster(context.paths)
        exits.push_async_callback(client.close)
        agent = _Agent(context, client)
        await agent.start(exits)
        await context.stopping.wait()
        await agent.pods.stop(context.grace_seconds)


class _Agent:
    """The wiring: who is told of what."""

    def __init__(self, context: NodeContext, client: ApiClient) -> None:
        paths = context.paths
        self._context = context
        self._client = client
        self._facts = machine_facts(paths.directory)
        self._events = EventRecorder(client, NODE_NAME)
        self._prober = Prober(context.runtime)
        self._rules = ServiceRules(SERVICE_ADDRESSES)
        self._index = ServiceIndex(self._rules.update, str(NODE_ADDRESS))
        self._images = ImageTable(paths, context.images, self._images_changed)
        self._services = Informer(client, "services", self._service_changed)
        self._node_ports = NodePorts(context.host_ports, self._services.items, self._node_port_refused)
        self._slices = Informer(client, "discovery.k8s.io/v1/endpointslices", self._index.slice_changed)
        self._config_maps = Informer(client, "configmaps", lambda old, new: self._object("configmaps", old, new))
        self._secrets = Informer(client, "secrets", lambda old, new: self._object("secrets", old, new))
        self._claims = Informer(
            client, "persistentvolumeclaims", lambda old, new: self._object("persistentvolumeclaims", old, new)
        )
        self._volumes = Informer(client, "persistentvolumes", self._volume_changed)
        self._pods = Informer(client, "pods", self._pod_changed, field_selector=f"spec.nodeName={NODE_NAME}")
        node = NodeServices(
            client=client,
            runtime=context.runtime,
            network=context.network,
            prober=self._prober,
            events=self._events,
            references=_Held(self._config_maps, self._secrets, self._claims, self._volumes),
            images=self._images,
            services=self._services.items,
            roots=VolumeRoots(paths.volumes, paths.volumes / _MEMORY_FOLDER, paths.claims, _memory_for),
            logs=paths.logs,
            host_ip=str(NODE_ADDRESS),
            resolv_conf=_node_resolv_conf(),
            cpu_cores=int(self._facts["cpu"]),
            memory_bytes=int(self._facts["memory_bytes"]),
        )
        self.pods = PodTable(node, self._pods.items)
        self._streaming = StreamingServer(paths.node_socket, self.pods, context.runtime)
        self._dns = DnsServer(self._index.names, DNS_ADDRESS)

    async def start(self, exits: AsyncExitStack) -> None:
        """Start everything; pods begin when all that they may refer to is known."""
        _prepare_volumes(self._context.paths)
        exits.push_async_callback(self._prober.close)
        await self._rules.start()
        exits.callback(self._rules.close)
        await self._dns.start()
        exits.push_async_callback(self._dns.close)
        await self._streaming.start()
        exits.push_async_callback(self._streaming.close)
        exits.callback(self._context.host_ports.close)
        own = own_logs.run(self._context.paths)
        evictions = Evictions(self._context.paths.volumes, self.pods.workers).run()
        for work in (self._rules.run(), self._events.run(), self._images.run(), self._node_ports.run(), own, evictions):
            _run_until_exit(work, exits)
        needed = (self._services, self._slices, self._config_maps, self._secrets, self._claims, self._volumes)
        for informer in needed:
            _run_until_exit(informer.run(), exits)
        await asyncio.gather(
            register(self._client, self._facts, str(NODE_ADDRESS)), *(informer.synced.wait() for informer in needed)
        )
        _run_until_exit(keep_lease(self._client), exits)
        _run_until_exit(self._pods.run(), exits)
        await self._pods.synced.wait()
        self._forget_strangers()
        self._context.report_ready()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        self.pods.changed(old, new)

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        self._index.service_changed(old, new)
        self._node_ports.changed()

    def _node_port_refused(self, service: Mapping[str, Any], message: str) -> None:
        self._events.record(service, "Warning", "NodePortNotOpen", message)

    def _volume_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is None:
            volumes_claims.remove_folder(self._context.paths.claims, old)
        elif new is not None and (claim := new["spec"].get("claimRef")):
            self._object("persistentvolumeclaims", None, {"metadata": claim})

    def _images_changed(self) -> None:
        self.pods.images_changed()

    def _object(self, resource: str, old: Object | None, new: Object | None) -> None:
        self.pods.object_changed(resource, old, new)

    def _forget_strangers(self) -> None:
        """Remove volumes and logs of pods, and folders of claims, that were deleted while the node was away."""
        volumes_claims.remove_strangers(self._context.paths.claims, self._volumes.items.values())
        known = {pod["metadata"]["uid"] for pod in self._pods.items.values()}
        for folder in (self._context.paths.volumes, self._context.paths.logs):
            for entry in folder.iterdir():
                uid = entry.name.rpartition("_")[2]
                is_pod = folder == self._context.paths.volumes or entry.name.count("_") == 2
                if entry.is_dir() and is_pod and uid not in known and entry.name != _MEMORY_FOLDER:
                    shutil.rmtree(entry, ignore_errors=True)


class _Held:
    """`environment.References` from the informers' copies."""

    def __init__(self, config_maps: Informer, secrets: Informer, claims: Informer, volumes: Informer) -> None:
        self._config_maps = config_maps
        self._secrets = secrets
        self._claims = claims
        self._volumes = volumes

    def config_map(self, namespace: str, name: str) -> Object | None:
        return self._config_maps.items.get((namespace, name))

    def secret(self, namespace: str, name: str) -> Object | None:
        return self._secrets.items.get((namespace, name))

    def claim(self, namespace: str, name: str) -> Object | None:
        return self._claims.items.get((namespace, name))

    def persistent_volume(self, name: str) -> Object | None:
        return self._volumes.items.get(("", name))


def _prepare_volumes(paths: ClusterPaths) -> None:
    """What volumes get from the API is kept in memory; the mount goes with the node's mount namespace."""
    memory = paths.volumes / _MEMORY_FOLDER
    memory.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    linux.mount("tmpfs", str(memory), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0700")


def _memory_for(folder: Path, most_bytes: int) -> None:
    options = linux.tmpfs_options(0o777, most_bytes)
    linux.mount("tmpfs", str(folder), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)


def _node_resolv_conf() -> str:
    try:
        return Path("/etc/resolv.conf").read_text()
    except OSError:
        return ""


def _run_until_exit(work: Coroutine[Any, Any, None], exits: AsyncExitStack) -> None:
    task = asyncio.create_task(work)
    task.add_done_callback(_tell_failure)

    async def cancel() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    exits.push_async_callback(cancel)


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a part of the node has ended", exc_info=error)
