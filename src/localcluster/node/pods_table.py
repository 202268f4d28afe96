"""All pods of the node: a worker for each, and what the streaming server may reach of them."""

import asyncio
import logging
import shutil
from collections.abc import Mapping
from typing import Any

from localcluster.node.client import ApiStatusError, ApiUnavailableError, Object
from localcluster.node.client_informer import Key
from localcluster.node.logs import log_path, pod_log_directory
from localcluster.node.pods import ContainerView, Waiting, all_containers
from localcluster.node.pods_container import NodeServices
from localcluster.node.pods_worker import Ending, PodWorker
from localcluster.node.runtime import PodNetwork
from localcluster.node.streaming import ContainerAccess, NoSuchContainerError

_log = logging.getLogger(__name__)
# A pod whose object was removed by force gets no more than this.
_FORCED_GRACE_SECONDS = 1.0
_OVER = ("Succeeded", "Failed")


class PodTable:
    """Workers by pod uid, kept equal to what the API says (`changed` is the informer's callback)."""

    def __init__(self, node: NodeServices, pods: Mapping[Key, Object]) -> None:
        self._node = node
        self._pods = pods
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def changed(self, old: Object | None, new: Object | None) -> None:
        """A pod came, changed or went."""
        if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            self._gone(old)
        if new is not None:
            self._present(new)

    def _gone(self, pod: Object) -> None:
        worker = self._workers.get(pod["metadata"]["uid"])
        if worker is not None:
            worker.terminate(Ending.GONE, _FORCED_GRACE_SECONDS)

    def _present(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(pod)
            return
        over = (pod.get("status") or {}).get("phase") in _OVER
        if pod["metadata"].get("deletionTimestamp"):
            # Nothing of it runs here (it ended before the node was restarted): there is nothing to wait for.
            self._tasks[uid] = asyncio.create_task(self._remove(pod), name=f"remove {uid}")
        elif not over:
            worker = self._workers[uid] = PodWorker(self._node, pod)
            self._tasks[uid] = asyncio.create_task(self._work(uid, worker), name=f"pod {pod['metadata']['name']}")

    async def _work(self, uid: str, worker: PodWorker) -> None:
        try:
            await worker.run()
        except Exception:
            # One pod's mishap must not end the node; its object stays, so that it is seen.
            _log.exception("pod %s/%s", worker.pod["metadata"]["namespace"], worker.pod["metadata"]["name"])
        finally:
            del self._workers[uid]
            del self._tasks[uid]

    async def _remove(self, pod: Object) -> None:
        metadata = pod["metadata"]
        uid, namespace, name = metadata["uid"], metadata["namespace"], metadata["name"]
        try:
            await self._node.client.delete_now("pods", name, namespace, uid)
        except (ApiStatusError, ApiUnavailableError) as error:
            _log.warning("pod %s/%s was not removed: %s", namespace, name, error)
        finally:
            del self._tasks[uid]
        logs = pod_log_directory(self._node.logs, namespace, name, uid)
        await asyncio.to_thread(shutil.rmtree, logs, ignore_errors=True)

    def object_changed(self, resource: str, old: Object | None, new: Object | None) -> None:
        """A config map or secret came, changed or went."""
        metadata = (new or old or {})["metadata"]
        for worker in list(self._workers.values()):
            if worker.pod["metadata"]["namespace"] == metadata["namespace"]:
                worker.object_changed(resource, metadata["name"])

    def images_changed(self) -> None:
        """Other images may be known now."""
        for worker in list(self._workers.values()):
            worker.images_changed()

    async def stop(self, grace_seconds: float) -> None:
        """End every pod on this node; their objects stay."""
        for worker in list(self._workers.values()):
            worker.terminate(Ending.NODE_STOPS, grace_seconds)
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    # streaming.PodTable

    def find_container(self, namespace: str, pod: str, container: str, *, previous: bool) -> ContainerAccess:
        """See `streaming.PodTable`."""
        found = self._find(namespace, pod)
        spec = next((item for item in all_containers(found) if item["name"] == container), None)
        if spec is None:
            raise NoSuchContainerError(400, f"container {container} is not valid for pod {pod}")
        uid = found["metadata"]["uid"]
        worker = self._workers.get(uid)
        number = _shown_run(worker.view.containers[container]) if worker else _last_run(found, container)
        if number is None:
            raise NoSuchContainerError(
                400, f'container "{container}" in pod "{pod}" is waiting to start: {_reason(worker, container)}'
            )
        if previous:
            waits = worker is not None and isinstance(worker.view.containers[container].state, Waiting)
            number = number if waits else number - 1
            if number < 0:
                raise NoSuchContainerError(400, f'previous terminated container "{container}" in pod "{pod}" not found')
        run = worker.runs.get(container) if worker else None
        path = log_path(self._node.logs, namespace, pod, uid, container, number)
        return ContainerAccess(spec, run.container if run else None, path)

    def find_network(self, namespace: str, pod: str) -> PodNetwork:
        """See `streaming.PodTable`."""
        worker = self._workers.get(self._find(namespace, pod)["metadata"]["uid"])
        if worker is None or worker.network is None:
            raise NoSuchContainerError(400, f"pod {pod} is not running")
        return worker.network

    def workers(self) -> list[PodWorker]:
        """All pods of the node."""
        return list(self._workers.values())

    def processes(self) -> list[tuple[str, str, int]]:
        """See `streaming.PodTable`."""
        return [
            (uid, name, run.container.pid) for uid, worker in self._workers.items() for name, run in worker.runs.items()
        ]

    def _find(self, namespace: str, pod: str) -> Mapping[str, Any]:
        found = self._pods.get((namespace, pod))
        if found is None:
            raise NoSuchContainerError(404, f'pod "{pod}" not found in namespace "{namespace}"')
        return found


def _shown_run(container: ContainerView) -> int | None:
    """The run whose output is "the" log: the current one, or the last one while a restart is awaited."""
    if container.attempts:
        return container.restart_count
    return container.restart_count - 1 if container.last else None


def _last_run(pod: Mapping[str, Any], container: str) -> int | None:
    """The last run of a container of a pod that is over, by the pod's status."""
    status = pod.get("status") or {}
    groups = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    for item in (item for group in groups for item in status.get(group) or ()):
        if item["name"] == container and item.get("containerID"):
            return int(item.get("restartCount", 0))
    return None


def _reason(worker: PodWorker | None, container: str) -> str:
    state = worker.view.containers[container].state if worker else None
    return state.reason if isinstance(state, Waiting) else "ContainerCreating"
