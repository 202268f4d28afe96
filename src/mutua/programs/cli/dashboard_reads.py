"""What the dashboard reads of a cluster: its objects as they change, the control plane's counters every few seconds."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from mutua.analysis import run
from mutua.analysis.inputs import World
from mutua.analysis.message import Message
from mutua.api import kinds
from mutua.api.findings import Finding
from mutua.errors import MutuaError, UnavailableError
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.mesh.snapshot import MeshSnapshot
from mutua.programs.cli import control_plane, identity_pages
from mutua.programs.cli.control_plane import Traffic
from mutua.programs.cli.main import Options
from mutua.programs.cli.version import client_version
from mutua.programs.control_plane.configuration import ConfigurationFollower
from mutua.programs.control_plane.settings import Settings
from mutua.reports import graph, traffic_window
from mutua.reports.dashboard import Moment
from mutua.reports.graph_model import Graph, Overview
from mutua.reports.proxy_status import PlaintextSeen, ProxyState
from mutua.reports.traffic_window import Window
from mutua.servers.dashboard import Read
from mutua.sources import kubernetes
from mutua.sources.merge import Merge
from mutua.system import clock
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError

POLL_SECONDS: Final = 5.0
_SLOW_EVERY: Final = 6
"""Certificates and the proxies' state change rarely: they are asked for with every sixth read."""
_ANALYSIS_SECONDS: Final = 60.0
_PATIENCE_SECONDS: Final = 10.0


class _Asked(NamedTuple):
    """What the control plane told."""

    traffic: Traffic = Traffic((), ())
    plaintext: Sequence[PlaintextSeen] = ()
    proxies: Sequence[ProxyState] = ()
    certificates: Sequence[Mapping[str, Any]] = ()


class ClusterReads:
    """Reads one cluster. Between two times of watching it keeps the counters, so that the window can go on."""

    def __init__(self, kube: KubeClient, chosen: Options, window_seconds: float) -> None:
        self._kube = kube
        self._chosen = chosen
        settings = Settings(pod_name="", namespace=chosen.istio_namespace)
        self._configuration = ConfigurationFollower(kube, settings, client_version(), lambda: None)
        self._window = Window(window_seconds)
        self._objects: ObjectSet | None = None
        self._unreadable: tuple[Finding, ...] = ()
        self._listed = asyncio.Event()
        self._trouble_with_objects = ""
        self._snapshot: MeshSnapshot | None = None
        self._analysed: tuple[float, ObjectSet, tuple[Message, ...]] | None = None
        self._asked = _Asked()
        self._reads = 0
        self._graph = Graph()
        self._as_of: datetime | None = None

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[Read]:
        """Follows the cluster's objects while the block runs."""
        self._listed.clear()
        merge = Merge(kinds.snapshot_inputs(), self._deliver)
        following = [
            asyncio.create_task(kubernetes.follow(self._kube, kinds.snapshot_inputs(), merge, self._report)),
            asyncio.create_task(merge.run()),
        ]
        try:
            yield self.read
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    async def read(self) -> Moment:
        """The state of now. What cannot be read is as it was last, and the moment says so."""
        trouble: MutuaError | None = None
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._configuration.load()
                await self._listed.wait()
        except (TimeoutError, MutuaError) as error:
            return self._moment(self._as_trouble(error))
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                self._asked = await self._ask(slow=self._reads % _SLOW_EVERY == 0)
        except (TimeoutError, MutuaError) as error:
            trouble = self._as_trouble(error)
        else:
            self._reads += 1
            # Seconds of a machine that slept are counted, so that what was added meanwhile is no sudden burst.
            at = time.clock_gettime(time.CLOCK_BOOTTIME)
            edges, silent = self._asked.traffic
            self._window = traffic_window.observe(self._window, at, edges, complete=not silent)
            self._as_of = clock.now()
        self._graph = await asyncio.to_thread(self._built)
        return self._moment(trouble)

    def _as_trouble(self, error: TimeoutError | MutuaError) -> MutuaError:
        if isinstance(error, MutuaError):
            return error
        waited = f"the cluster does not answer within {_PATIENCE_SECONDS:.0f} seconds"
        return UnavailableError(self._trouble_with_objects or waited, "kubectl get --raw /readyz")

    async def _ask(self, *, slow: bool) -> _Asked:
        kube, chosen = self._kube, self._chosen
        traffic, seen = await asyncio.gather(self._traffic(), control_plane.plaintext(kube, chosen))
        if not slow:
            return self._asked._replace(traffic=traffic, plaintext=seen)
        proxies, (certificates, _) = await asyncio.gather(
            control_plane.proxies(kube, chosen), identity_pages.certificates(kube, chosen)
        )
        return _Asked(traffic, seen, proxies, certificates)

    async def _traffic(self) -> Traffic:
        try:
            return await control_plane.traffic(self._kube, self._chosen)
        except KubeError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            raise UnavailableError(
                "the control plane does not tell who calls whom: it is older than this program",
                "mutua version",
            ) from error

    def _built(self) -> Graph:
        objects, configuration = self._objects, self._configuration.current
        if objects is None:
            return self._graph
        domain = configuration.injector.cluster_domain
        self._snapshot = build.snapshot(objects, configuration.mesh, self._snapshot, cluster_domain=domain)
        overview = Overview(
            self._snapshot,
            self._findings(objects),
            traffic_window.flows(self._window),
            self._asked.plaintext,
            self._asked.certificates,
            self._asked.proxies,
            self._chosen.istio_namespace,
        )
        return graph.build(overview)

    def _findings(self, objects: ObjectSet) -> tuple[Message, ...]:
        """Those of the last time, while no object changed and it is not long ago."""
        now = time.monotonic()
        if self._analysed and self._analysed[1] is objects and now - self._analysed[0] < _ANALYSIS_SECONDS:
            return self._analysed[2]
        configuration = self._configuration.current
        world = World(
            objects,
            configuration.mesh,
            configuration.injector,
            self._chosen.istio_namespace,
            is_complete=True,
            unreadable=self._unreadable,
            now=clock.now(),
        )
        messages = run.analyze(world)
        self._analysed = (now, objects, messages)
        return messages

    def _moment(self, error: MutuaError | None) -> Moment:
        observed = [each for each in self._window.intervals if each.begin is not None]
        return Moment(
            self._graph,
            self._as_of,
            self._window.seconds,
            round(sum(each.end - (each.begin or 0) for each in observed), 1),
            POLL_SECONDS,
            self._kube.server,
            error.message if error else self._trouble_with_objects,
            (error.hint or "") if error else "",
            self._asked.traffic.silent,
        )

    async def _deliver(self, objects: ObjectSet, unreadable: tuple[Finding, ...]) -> None:
        self._objects, self._unreadable = objects, unreadable
        self._trouble_with_objects = ""
        self._listed.set()

    def _report(self, trouble: str) -> None:
        if "is not installed" not in trouble:
            self._trouble_with_objects = trouble
