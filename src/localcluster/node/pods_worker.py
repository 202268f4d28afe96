"""The life of one pod on this node: does what `pods.next_actions` says, and tells the API."""

import asyncio
import logging
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from localcluster.node import pods_network
from localcluster.node.client import ApiStatusError, ApiUnavailableError
from localcluster.node.logs import log_path, pod_log_directory, rotated
from localcluster.node.pods import (
    CONFIG_ERROR,
    IMAGE_BACKOFF,
    IMAGE_ERROR,
    ContainerView,
    Terminated,
    Waiting,
    after_change,
    after_exit,
    after_start,
    after_start_error,
    all_containers,
    asked_nothing,
    finished,
    init_containers,
    is_sidecar,
    next_actions,
    retry_now,
)
from localcluster.node.pods_container import NodeServices, NotStartableError, container_spec
from localcluster.node.pods_run import ContainerRun
from localcluster.node.probes import ProbeKind
from localcluster.node.runtime import ContainerStartError, PodNetwork
from localcluster.node.status import began, pod_status, restored
from localcluster.node.status_events import EventType
from localcluster.node.status_writer import StatusWriter
from localcluster.node.termination import TerminationMessage
from localcluster.node.volumes import VolumeError
from localcluster.node.volumes_pod import PodVolumes

_log = logging.getLogger(__name__)
_DEFAULT_GRACE_SECONDS = 30.0
_START_ERROR_CODE = 128
_FIRST_RETRY_SECONDS = 0.5
_LONGEST_RETRY_SECONDS = 10.0
_LAST_STATUS_SECONDS = 2.0


class Ending(Enum):
    """Why a pod ends on this node."""

    DELETED = "its object waits for the node to let go of it"
    GONE = "its object does not exist any more"
    NODE_STOPS = "the node stops; the pod is started anew when it comes back"


class PodWorker:
    """Runs one pod, from its network to its removal."""

    def __init__(self, node: NodeServices, pod: Mapping[str, Any]) -> None:
        now = datetime.now(UTC)
        self.pod = pod
        self.view = restored(pod, now)
        self.runs: dict[str, ContainerRun] = {}
        self.network: PodNetwork | None = None
        self._node = node
        # The node's restart does not begin a pod's life anew.
        self._started_at = began(pod) or now
        self._replaced: set[str] = set()
        self._volumes: PodVolumes | None = None
        self._wake = asyncio.Event()
        self._retry = asyncio.Event()
        self._active: dict[str, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._ending: Ending | None = None
        self._deadline = float("inf")
        self._writer = StatusWriter(node.client, pod, self._status)
        self._writing = asyncio.create_task(self._writer.run(), name=f"status of {self._name}")

    # What others tell it. None of these block.

    def update(self, pod: Mapping[str, Any]) -> None:
        """The pod's object is now this one."""
        old, self.pod = self.pod, pod
        metadata = pod["metadata"]
        self._take_changes(old)
        if self._volumes is not None and any(
            old["metadata"].get(key) != metadata.get(key) for key in ("labels", "annotations")
        ):
            self._volumes.refresh(pod)
        if metadata.get("deletionTimestamp"):
            self.terminate(Ending.DELETED, float(metadata.get("deletionGracePeriodSeconds") or 0))
        elif (old.get("status") or {}).get("conditions") != (pod.get("status") or {}).get("conditions"):
            self._writer.changed()  # a readiness gate may have been opened

    def _take_changes(self, old: Mapping[str, Any]) -> None:
        """What of a pod's spec may change: images, ephemeral containers, and how long it may run."""
        for container in all_containers(self.pod):
            if container["name"] not in self.view.containers:
                self._set(ContainerView(container["name"]))
        for before, after in zip(all_containers(old), all_containers(self.pod), strict=False):
            name = after["name"]
            if before.get("image") != after.get("image") and name in self.runs:
                self._replaced.add(name)
                message = f"Container {name} definition changed, will be restarted"
                self._stop_later(self.runs[name], self._default_grace(), message)
        if old["spec"].get("activeDeadlineSeconds") != self.pod["spec"].get("activeDeadlineSeconds"):
            self._wake.set()

    def terminate(self, ending: Ending, grace_seconds: float) -> None:
        """End the pod within that time. Said again, it can only become sooner."""
        if self._ending is not Ending.GONE:
            self._ending = ending
        if ending is Ending.NODE_STOPS:
            self._writing.cancel()  # the pod is not over: it goes on when the node comes back
        deadline = self._now() + grace_seconds
        if deadline < self._deadline:
            self._deadline = deadline
            for run in self.runs.values():
                run.hasten(deadline)
        self._wake.set()

    def object_changed(self, resource: str, name: str) -> None:
        """A config map or secret of the pod's namespace has changed, come or gone."""
        if self._volumes is not None and self.view.volumes_ready and self._volumes.uses(resource, name):
            self._volumes.refresh(self.pod)
        self._retry.set()
        self.view = retry_now(self.view, (CONFIG_ERROR,), self._now())
        self._wake.set()

    def images_changed(self) -> None:
        """Other images may be known now."""
        self.view = retry_now(self.view, (IMAGE_ERROR, IMAGE_BACKOFF), self._now())
        self._wake.set()

    def evict(self, message: str) -> None:
        """Fail the pod for what it takes from others."""
        if self._ending is None and self.view.failure is None:
            self._fail("Evicted", message, "Warning")

    # Its life.

    async def run(self) -> None:
        """Run the pod until it is gone from the node, and from the API if it was deleted there."""
        setting_up = asyncio.create_task(self._set_up(), name=f"set up {self._name}")
        self._writer.changed()
        try:
            await self._live()
            await _cancel(setting_up)
            await self._stop_all()
            await self._clean_up()
            while self._ending is None:
                self._wake.clear()
                await self._wake.wait()
            if self._ending is Ending.DELETED:
                await self._remove_object()
            if self._ending is not Ending.NODE_STOPS:
                metadata = self.pod["metadata"]
                logs = pod_log_directory(self._node.logs, metadata["namespace"], metadata["name"], self._uid)
                await asyncio.to_thread(shutil.rmtree, logs, ignore_errors=True)
        finally:
            await _cancel(setting_up, self._writing, *self._active.values(), *self._background)

    async def _live(self) -> None:
        """Do what is next, until the pod is done or is to end."""
        while self._ending is None:
            self._wake.clear()
            expires_at = self._check_deadline()
            plan = next_actions(self.pod, self.view, self._now())
            for name in plan.start:
                self._set(replace(self.view.containers[name], starting=True))
                self._active[name] = asyncio.create_task(self._run_container(name), name=f"{self._name} {name}")
            for name in plan.stop:
                if name in self.runs:
                    self._stop_later(self.runs[name], self._default_grace(), f"Stopping container {name}")
            if finished(self.pod, self.view) and not self._active:
                return
            wake_at = min((at for at in (plan.wake_at, expires_at) if at is not None), default=None)
            timeout = None if wake_at is None else max(0.0, wake_at - self._now())
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._wake.wait()

    def _check_deadline(self) -> float | None:
        """Fail the pod if it has run for activeDeadlineSeconds; else the time (event loop seconds) when it will."""
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is None or self.view.failure is not None:
            return None
        left = float(seconds) - (datetime.now(UTC) - self._started_at).total_seconds()
        if left > 0:
            return self._now() + left
        self._fail("DeadlineExceeded", "Pod was active on the node longer than the specified deadline", "Normal")
        return None

    async def _set_up(self) -> None:
        """Make network and volumes, trying again until both are there."""
        delay = _FIRST_RETRY_SECONDS
        while True:
            self._retry.clear()
            try:
                if self.network is None:
                    self.network = await pods_network.make(self._node, self.pod)
                    self.view = replace(self.view, network_ready=True, pod_ip=self.network.address)
                    place = self._node.place(self.network.address)
                    self._volumes = PodVolumes(
                        self._node.client, self._node.references, self._node.roots, self.pod, place
                    )
                    self._changed()
                if self._volumes is not None:
                    await self._volumes.set_up()
            except VolumeError as error:
                self._event("Warning", "FailedMount", str(error))
            except OSError as error:
                self._event("Warning", "FailedCreatePodSandBox", f"cannot make the pod's network: {error}")
            except Exception:  # a spec that nobody expected: told, and tried again, since it may be mended
                _log.exception("pod %s cannot be set up", self._name)
                self._event("Warning", "FailedSync", "the node could not set up the pod; its log has the details")
            else:
                self.view = replace(self.view, volumes_ready=True)
                self._changed()
                return
            # A change of what is missing is told (`object_changed`); time only helps against the rest.
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._retry.wait()
            delay = min(delay * 2, _LONGEST_RETRY_SECONDS)

    async def _run_container(self, name: str) -> None:
        """One run of one container, from its image to its exit status."""
        spec = next(item for item in all_containers(self.pod) if item["name"] == name)
        known = self.view.containers[name]
        begun = datetime.now(UTC)
        try:
            run = await self._start(spec, known.restart_count + (1 if known.attempts else 0))
            self.runs[name] = run
            self._set(asked_nothing(spec, after_start(self.view.containers[name], run.container.started_at)))
            ended = await self._watch(run)
            self._ended(self.view.containers[name], ended)
        except NotStartableError as error:
            self._set(after_start_error(self.view.containers[name], error.reason, str(error), self._now()))
            self._tell_start_error(spec, error)
        except (ContainerStartError, OSError) as error:
            self._event("Warning", "Failed", f"Error: {error}", container=name)
            ended = Terminated(_START_ERROR_CODE, "StartError", begun, datetime.now(UTC), str(error))
            self._ended(after_start(self.view.containers[name], begun), ended)
        except Exception:
            _log.exception("container %s of pod %s", name, self._name)
            if name in self.runs:
                self.runs[name].container.kill(signal.SIGKILL)
            text = "the node could not run the container; its log has the details"
            self._set(after_start_error(self.view.containers[name], "RunContainerError", text, self._now()))
        finally:
            self.runs.pop(name, None)
            del self._active[name]
            self._wake.set()

    async def _watch(self, run: ContainerRun) -> Terminated:
        name = run.spec["name"]
        self._event("Normal", "Started", f"Started container {name}", container=name)
        run.limit_memory()
        if self._ending is not None:
            self._stop_later(run, self._deadline - self._now(), f"Stopping container {name}")
        elif problem := await run.post_start():
            self._stop_later(run, self._default_grace(), problem)
        else:
            run.start_probes(lambda kind, result: self._probed(name, kind, result))
        status = await run.wait()
        message = TerminationMessage(self._node.roots.disk, self._uid, run.spec, run.number)
        return Terminated(
            exit_code=status.code,
            reason="OOMKilled" if run.out_of_memory else "Completed" if status.code == 0 else "Error",
            started_at=run.container.started_at,
            finished_at=status.finished_at,
            message=message.read(status.code, self._log_path(name, run.number)),
            signal=status.signal,
        )

    async def _start(self, spec: Mapping[str, Any], number: int) -> ContainerRun:
        name = spec["name"]
        if self.network is None or self._volumes is None:
            raise NotStartableError(CONFIG_ERROR, "the pod has no network yet")
        wanted = container_spec(self._node, self.pod, spec, self._volumes, self.network.address, number)
        self._drop_old_logs(name, number)
        self._event(
            "Normal", "Pulled", f'Container image "{spec.get("image")}" already present on machine', container=name
        )
        beside = None
        if target := spec.get("targetContainerName"):
            if target not in self.runs:
                raise NotStartableError(
                    CONFIG_ERROR, f"container {target}, whose processes it is to see, is not running"
                )
            beside = self.runs[target].container
        container = await self._node.runtime.start(wanted, self.network, beside)
        self._event("Normal", "Created", f"Created container: {name}", container=name)
        return ContainerRun(self._node, self.pod, spec, container, self.network.address, number)

    def _probed(self, name: str, kind: ProbeKind, result: bool) -> None:
        known = self.view.containers[name]
        if kind == "startup" and result:
            self._set(replace(known, started=True))
        elif kind == "readiness":
            self._set(replace(known, ready=result))
        elif not result and name in self.runs and self._ending is None:
            spec = self.runs[name].spec
            own_grace = (spec.get(f"{kind}Probe") or {}).get("terminationGracePeriodSeconds")
            grace = self._default_grace() if own_grace is None else float(own_grace)
            self._stop_later(self.runs[name], grace, f"Container {name} failed {kind} probe, will be restarted")

    def _ended(self, known: ContainerView, terminated: Terminated) -> None:
        if self._ending is not None or self.view.failure is not None:
            self._set(replace(known, state=terminated, starting=False, started=False, ready=False, retry_at=None))
            return
        if known.name in self._replaced:
            self._replaced.discard(known.name)
            self._set(after_change(known, terminated, self._now()))
            return
        after = after_exit(self.pod, known, terminated, self._now())
        if isinstance(after.state, Waiting):
            text = f"Back-off restarting failed container {known.name} in pod {self._name}({self._uid})"
            self._event("Warning", "BackOff", text, container=known.name)
        self._set(after)

    def _tell_start_error(self, spec: Mapping[str, Any], error: NotStartableError) -> None:
        name, image = spec["name"], spec.get("image")
        state = self.view.containers[name].state
        if isinstance(state, Waiting) and state.reason == IMAGE_BACKOFF:
            self._event("Normal", "BackOff", f'Back-off pulling image "{image}": {error}', container=name)
        elif error.reason == IMAGE_ERROR:
            self._event("Warning", "Failed", f'Failed to pull image "{image}": {error}', container=name)
        else:
            self._event("Warning", "Failed", f"Error: {error}", container=name)

    # Its end.

    async def _stop_all(self) -> None:
        """End main and ordinary init containers together, then sidecars one by one, the last one first."""
        if self._ending is None:
            self._deadline = self._now() + self._default_grace()
        sidecars = [item["name"] for item in reversed(init_containers(self.pod)) if is_sidecar(item)]
        await asyncio.gather(*(self._end(name) for name in list(self._active) if name not in sidecars))
        for name in sidecars:
            await self._end(name)

    async def _end(self, name: str) -> None:
        task = self._active.get(name)
        if task is None:
            return
        if name in self.runs:
            await self.runs[name].stop(self._deadline, f"Stopping container {name}")
        await asyncio.wait((task,))

    async def _clean_up(self) -> None:
        try:
            await pods_network.remove(self._node, self.pod, self.network)
        except OSError as error:
            _log.warning("the network of pod %s was not removed: %s", self._name, error)
        self.network = None
        self.view = replace(self.view, network_ready=False)
        if self._volumes is not None:
            await self._volumes.remove()
        self._changed()

    async def _remove_object(self) -> None:
        """Write the last status, so that watchers see how the pod ended, and let the API forget it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_STATUS_SECONDS):
                await self._writer.settled()
        metadata = self.pod["metadata"]
        delay = _FIRST_RETRY_SECONDS
        while True:
            try:
                await self._node.client.delete_now("pods", metadata["name"], metadata["namespace"], self._uid)
            except (ApiStatusError, ApiUnavailableError) as error:
                _log.info("pod %s is not removed yet: %s", self._name, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)
            else:
                return

    @property
    def _uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    @property
    def _name(self) -> str:
        """As the kubelet writes it: `name_namespace`."""
        return f"{self.pod['metadata']['name']}_{self.pod['metadata']['namespace']}"

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _default_grace(self) -> float:
        seconds = self.pod["spec"].get("terminationGracePeriodSeconds")
        return _DEFAULT_GRACE_SECONDS if seconds is None else float(seconds)

    def _fail(self, reason: str, message: str, kind: EventType) -> None:
        self._event(kind, reason, message)
        self.view = replace(self.view, failure=(reason, message))
        self._changed()

    def _set(self, container: ContainerView) -> None:
        self.view = self.view.changed(container)
        self._changed()

    def _changed(self) -> None:
        self._wake.set()
        self._writer.changed()

    def _status(self) -> dict[str, Any]:
        return pod_status(
            self.pod,
            self.view,
            written=self._writer.written.get("conditions") or (),
            host_ip=self._node.host_ip,
            started_at=self._started_at,
            now=datetime.now(UTC),
        )

    def _event(self, kind: EventType, reason: str, message: str, *, container: str | None = None) -> None:
        self._node.events.record(self.pod, kind, reason, message, container=container)

    def _stop_later(self, run: ContainerRun, grace_seconds: float, message: str) -> None:
        task = asyncio.create_task(run.stop(self._now() + grace_seconds, message))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _drop_old_logs(self, container: str, number: int) -> None:
        """Keep the output of the current run and of the one before."""
        old = self._log_path(container, number - 2)
        for path in (old, rotated(old)):
            path.unlink(missing_ok=True)

    def _log_path(self, container: str, number: int) -> Path:
        metadata = self.pod["metadata"]
        return log_path(self._node.logs, metadata["namespace"], metadata["name"], self._uid, container, number)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
