"""One run of one container: started, probed, stopped."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from lightkube.utils.quantity import parse_quantity

from localcluster.node.pods_container import NodeServices
from localcluster.node.probes import ProbeKind, ProbeSettings
from localcluster.node.probes_run import Answer, ContainerProbes
from localcluster.node.runtime import Container, ExitStatus
from localcluster.node.usage import exact_memory, own_memory, tree

# What a container gets after its preStop hook has used up its grace period, as the kubelet gives it.
_SHORTEST_GRACE_SECONDS = 2.0
_HOOK_SECONDS = 3600.0
_MEMORY_LOOK_SECONDS, _MEMORY_GLANCE_SECONDS = 1.0, 4.0


class ContainerRun:
    """A container that runs. `number` is the restart count of this run."""

    def __init__(
        self,
        node: NodeServices,
        pod: Mapping[str, Any],
        spec: Mapping[str, Any],
        container: Container,
        pod_ip: str,
        number: int,
    ) -> None:
        self.container = container
        self.number = number
        self.spec = spec
        self._node = node
        self._pod = pod
        self._pod_ip = pod_ip
        self._stopping: asyncio.Task[None] | None = None
        self._deadline = float("inf")
        self._nearer = asyncio.Event()
        self._probing: asyncio.Task[None] | None = None
        self._limiting: asyncio.Task[None] | None = None
        self.out_of_memory = False

    def limit_memory(self) -> None:
        """End the container when its processes together take more than `resources.limits.memory`.

        No cgroup is asked for, since an ordinary user has none to give: the node looks once a second, and less often
        as long as there is much room. What grows and ends in between is not noticed.
        """
        amount = ((self.spec.get("resources") or {}).get("limits") or {}).get("memory")
        limit = parse_quantity(str(amount)) if amount else None
        if limit:
            self._limiting = asyncio.create_task(self._watch_memory(int(limit)), name=f"memory of {self.spec['name']}")

    async def _watch_memory(self, limit: int) -> None:
        used = limit
        while True:
            await asyncio.sleep(_MEMORY_LOOK_SECONDS if used * 2 > limit else _MEMORY_GLANCE_SECONDS)
            processes = tree(self.container.pid)
            used = own_memory(processes)
            if used > limit and exact_memory(processes) > limit:
                self.out_of_memory = True
                self.container.kill(signal.SIGKILL)
                return

    def start_probes(self, on_change: Callable[[ProbeKind, bool], None]) -> None:
        """Begin to ask the container how it is, until it ends."""
        name = self.spec["name"]

        async def ask(probe: ProbeSettings) -> Answer:
            return await self._node.prober.ask(probe.handler, self.spec, self.container, self._pod_ip, probe.timeout)

        def failed(probe: ProbeSettings, message: str) -> None:
            text = f"{probe.kind.capitalize()} probe failed: {message}"
            self._node.events.record(self._pod, "Warning", "Unhealthy", text, container=name)

        probes = ContainerProbes(ask, on_change, failed)
        self._probing = asyncio.create_task(probes.run(self.spec), name=f"probes of {name}")

    async def post_start(self) -> str | None:
        """Run the postStart hook, if there is one; returns what went wrong, or None."""
        hook = (self.spec.get("lifecycle") or {}).get("postStart")
        if not hook:
            return None
        answer = await self._node.prober.ask(hook, self.spec, self.container, self._pod_ip, _HOOK_SECONDS)
        if answer.success:
            return None
        text = f"PostStartHook failed: {answer.message}"
        self._node.events.record(self._pod, "Warning", "FailedPostStartHook", text, container=self.spec["name"])
        return text

    async def wait(self) -> ExitStatus:
        """Wait for its end, and end its probes."""
        try:
            return await self.container.wait()
        finally:
            for task in (self._probing, self._limiting):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task

    async def stop(self, deadline: float, message: str) -> None:
        """Stop it: preStop hook, SIGTERM, and SIGKILL at `deadline` (event loop seconds). Returns when it has ended.

        Stopping what is being stopped can only bring the deadline nearer.
        """
        self.hasten(deadline)
        if self._stopping is None:
            name = self.spec["name"]
            self._node.events.record(self._pod, "Normal", "Killing", message, container=name)
            self._stopping = asyncio.create_task(self._stop(), name=f"stop {name}")
        await asyncio.shield(self._stopping)

    def hasten(self, deadline: float) -> None:
        """Bring the end of a stop nearer, also of one that has not begun."""
        if deadline < self._deadline:
            self._deadline = deadline
            self._nearer.set()

    async def _stop(self) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.ensure_future(self.container.wait())
        hook = (self.spec.get("lifecycle") or {}).get("preStop")
        if hook and self._deadline > loop.time():
            promised = self._deadline
            hooking = asyncio.create_task(self._pre_stop(hook))
            await self._until(hooking, ended)
            hooking.cancel()
            if self._deadline == promised:
                self._deadline = max(promised, loop.time() + _SHORTEST_GRACE_SECONDS)
        if self._deadline > loop.time():
            self.container.kill(signal.SIGTERM)
            await self._until(ended)
        if not ended.done():
            self.container.kill(signal.SIGKILL)
        await ended

    async def _pre_stop(self, hook: Mapping[str, Any]) -> None:
        answer = await self._node.prober.ask(hook, self.spec, self.container, self._pod_ip, _HOOK_SECONDS)
        if not answer.success:
            name = self.spec["name"]
            text = f"PreStopHook failed: {answer.message}"
            self._node.events.record(self._pod, "Warning", "FailedPreStopHook", text, container=name)

    async def _until(self, *futures: "asyncio.Future[Any]") -> None:
        """Wait for the first of `futures`, at most to the deadline, which may come nearer meanwhile."""
        loop = asyncio.get_running_loop()
        while not any(future.done() for future in futures) and self._deadline > loop.time():
            self._nearer.clear()
            nearer = asyncio.create_task(self._nearer.wait())
            left = self._deadline - loop.time()
            await asyncio.wait((*futures, nearer), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            nearer.cancel()
