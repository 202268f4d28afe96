"""Writes on each policy what became of it: on how many proxies it is live, and what stands in its way.

One replica writes, the oldest that is ready, for all of them. Should two take themselves for it, they write the same.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from mutua.analysis import registry
from mutua.analysis.inputs import Inputs, Shared, World
from mutua.analysis.message import Message, Subject
from mutua.api import core, kinds
from mutua.api.kinds import Kind
from mutua.api.meta import age_order
from mutua.installation.labels import CONTROL_PLANE
from mutua.mesh.proxy_view import ObjectRef
from mutua.mesh.snapshot import MeshSnapshot
from mutua.programs.control_plane.replica_reports import ReplicaReports
from mutua.programs.control_plane.settings import Settings
from mutua.reports.policy_status import conditions, effect, gather, held
from mutua.reports.policy_status.effect import Decided
from mutua.reports.policy_status.gather import Known
from mutua.reports.policy_status.held import Held, ProxyState, Report
from mutua.servers.xds_connection import ProxyStatus
from mutua.sources import kubernetes
from mutua.system import clock
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeConflictError, KubeError, KubeNotFoundError
from mutua.system.kube_resources import EventType, WatchEvent
from mutua.system.logs import Log
from mutua.xds.sync_state import SyncState

PAUSE_SECONDS = 1.0
"""Between two looks, so that a burst of changes is one news."""

IDLE_SECONDS = 60.0
"""After this long, proxies that came and went without any change of an object are noticed."""

SHARE = 0.05
LONGEST_PAUSE_SECONDS = 10.0
"""Looking takes this share of the time at most, what others do meanwhile included: a busy program serves its proxies
first. But it does look again."""

WRITES_PER_SECOND = 20.0
WRITES_AT_A_LOOK = 60
"""What a look found out is soon out of date."""

AGAIN_SECONDS = 5.0
"""One policy's status is written at most this often."""

RETRY_SECONDS = 30.0
STEPS_BETWEEN_PAUSES = 25

_LOG = Log("policystatus")


class PolicyStatusWriter:
    """`world` gives the current objects and their meaning, None before there is one; `proxies` those connected here.

    `key_problems` say by location why the keys of issuers could not be fetched.
    """

    def __init__(
        self,
        kube: KubeClient,
        settings: Settings,
        world: Callable[[], tuple[World, MeshSnapshot] | None],
        proxies: Callable[[], Iterator[ProxyStatus]],
        key_problems: Callable[[], Mapping[str, str]],
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._world = world
        self._proxies = proxies
        self._key_problems = key_problems
        self._news = asyncio.Event()
        self._reports = ReplicaReports(kube, settings, self._news.set)
        self._there: dict[ObjectRef, _Found] = {}
        self._written_at: dict[ObjectRef, float] = {}
        self._known: Known | None = None

    def changed(self) -> None:
        """Objects, or their meaning, may be others."""
        self._news.set()

    def observe(self, kind: Kind, event: WatchEvent) -> None:
        """Take note of the statuses that the API server has; our own writes come back here, and are no news."""
        if kind not in kinds.policies():
            return
        seen = {}
        for raw in event.objects:
            found = _found.decode(raw)
            seen[ObjectRef(kind.name, found.metadata.namespace, found.metadata.name)] = found
        if event.type is EventType.LISTED:
            gone = [ref for ref in self._there if ref.kind == kind.name and ref not in seen]
        else:
            gone = list(seen) if event.type is EventType.DELETED else []
        for ref in gone:
            self._there.pop(ref, None)
            self._written_at.pop(ref, None)
            seen.pop(ref, None)
        for ref, found in seen.items():
            if found != self._there.get(ref):
                self._there[ref] = found
                self._news.set()

    async def run(self) -> None:
        """Writes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_reports())
            group.create_task(self._keep_writing())

    async def _follow_reports(self) -> None:
        while True:
            try:
                await self._reports.follow()
            except KubeError as error:
                _LOG.warn("cannot read what other replicas hold", problem=error.message, retry_seconds=RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)

    async def _keep_writing(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            self._news.clear()
            pause, trouble = 0.0, ""
            started = time.thread_time()
            try:
                if not await self._look():
                    self._news.set()
            except KubeError as error:
                pause, trouble = RETRY_SECONDS, error.message
            except Exception as error:  # a fault of ours here must not end the control plane
                pause, trouble = RETRY_SECONDS, repr(error)
            if trouble and trouble != said:
                _LOG.warn("the status of policies cannot be written", problem=trouble, retry_seconds=RETRY_SECONDS)
            said = trouble
            spent = time.thread_time() - started
            await asyncio.sleep(max(pause, min(spent / SHARE, LONGEST_PAUSE_SECONDS)))
            if not trouble:
                await self._until_news()

    async def _until_news(self) -> None:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _look(self) -> bool:
        """Compare and write; whether all that there is to say is said. Raises KubeError."""
        current = self._world()
        if current is None:
            return True
        world, snapshot = current
        if self._known is None or self._known.snapshot is not snapshot:
            self._known = Known(snapshot, await self._decided(snapshot))
        known = self._known
        replicas = self._replicas(snapshot)
        report, is_settled = await self._held(known)
        if replicas[:1] != [self._settings.pod_name]:
            me = snapshot.objects.get(kinds.POD, self._settings.namespace, self._settings.pod_name)
            if me is not None and len(replicas) > 1:
                await self._reports.tell(report, me.metadata.uid)
            return is_settled
        if known.messages is None:
            self._known = known = known._replace(messages=await self._messages(world, snapshot))
        reports = [report, *(self._reports.others.get(pod, {}) for pod in replicas[1:])]
        return await self._write_all(known, reports) and is_settled

    def _replicas(self, snapshot: MeshSnapshot) -> list[str]:
        """The pods of the control plane that are ready, from the oldest."""
        pods = [
            pod
            for (namespace, _), pod in snapshot.objects.typed(kinds.POD, core.Pod).items()
            if namespace == self._settings.namespace
            and pod.metadata.labels.get("app") == CONTROL_PLANE
            and not pod.metadata.deletion_timestamp
            and any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions)
        ]
        return [pod.metadata.name for pod in sorted(pods, key=lambda pod: age_order(pod.metadata))]

    async def _decided(self, snapshot: MeshSnapshot) -> dict[tuple[str, str], Decided]:
        """What counts for each pod, by namespace and name."""
        found: dict[tuple[str, str], Decided] = {}
        for count, profile in enumerate(effect.profiles(snapshot)):
            decided = effect.decided(snapshot, profile.example)
            found |= {(profile.namespace, name): decided for name in profile.names}
            if count % STEPS_BETWEEN_PAUSES == 0:
                await asyncio.sleep(0)
        return found

    async def _held(self, known: Known) -> tuple[Report, bool]:
        """On how many of this replica's proxies each policy is live, and whether that is so on all of them."""
        objects, report, is_settled = known.snapshot.objects, dict[str, Held](), True
        for count, status in enumerate(self._proxies()):
            proxy = _state(status)
            decided = known.decided.get((proxy.namespace, proxy.pod))
            for ref in decided.by if decided else ():
                name, kind = held.key(ref), kinds.by_name(ref.kind)
                item = objects.get(kind, ref.namespace, ref.name) if kind else None
                if item is None:
                    continue
                before = report.get(name) or Held(item.metadata.generation)
                report[name] = before.with_proxy(ref.kind, proxy)
                is_settled = is_settled and report[name].proxies > before.proxies
            if count % STEPS_BETWEEN_PAUSES == 0:
                await asyncio.sleep(0)
        return report, is_settled

    async def _messages(self, world: World, snapshot: MeshSnapshot) -> Mapping[Subject, tuple[Message, ...]]:
        """What the analysis has to say of each policy, by policy."""
        shared = Shared(world, snapshot)
        names = {kind.name for kind in kinds.policies()}
        found: dict[Subject, dict[Message, None]] = {}
        for check in registry.CHECKS:
            if not set(check.when_applied).intersection(kinds.policies()):
                continue
            for message in check.function(Inputs(shared, check.inputs)):
                for about in (message.subject, *message.related):
                    if about is not None and about.kind in names:
                        found.setdefault(about, {})[message] = None
            await asyncio.sleep(0)
        return {about: tuple(sorted(said, key=lambda each: (each.code, each.text))) for about, said in found.items()}

    async def _write_all(self, known: Known, reports: Iterable[Report]) -> bool:
        effects = effect.tally((decided, 1) for decided in known.decided.values())
        bare = tuple(gather.without_sidecar(known.snapshot, self._settings.namespace))
        reports, is_done, now, writes = list(reports), True, asyncio.get_running_loop().time(), 0
        for count, ref in enumerate(list(self._there)):
            facts = gather.facts(ref, known, effects, reports, bare, self._key_problems())
            if facts is None or self._there[ref].metadata.generation != facts.generation:
                is_done = False  # the news of one of the two has yet to arrive
                continue
            is_live = facts.held.proxies >= facts.effect.pods
            previous = msgspec.json.decode(self._there[ref].status)
            wanted = conditions.status(facts, previous, clock.now())
            if conditions.says_the_same(wanted, previous):
                is_done = is_done and is_live
            elif writes >= WRITES_AT_A_LOOK or now < self._written_at.get(ref, -AGAIN_SECONDS) + AGAIN_SECONDS:
                is_done = False
            else:
                writes += 1
                self._written_at[ref] = now
                is_done = await self._write(ref, wanted) and is_live and is_done
            if count % STEPS_BETWEEN_PAUSES == 0:
                await asyncio.sleep(0)
        return is_done

    async def _write(self, ref: ObjectRef, wanted: dict[str, object]) -> bool:
        """Whether the status is written; not if the object changed meanwhile, of which news will come."""
        kind = kinds.by_name(ref.kind)
        if kind is None:
            return True
        body = {"metadata": {"resourceVersion": self._there[ref].metadata.resource_version}, "status": wanted}
        resource = kubernetes.resource(kind)
        try:
            stored = await self._kube.patch(resource, ref.name, body, ref.namespace, subresource="status")
        except (KubeConflictError, KubeNotFoundError):
            return False
        self._there[ref] = _found.decode(msgspec.json.encode(stored))
        await asyncio.sleep(1 / WRITES_PER_SECOND)
        return True


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    namespace: str = ""
    generation: int = 0
    resource_version: str = ""


class _Found(msgspec.Struct):
    """One policy as the API server has it. What is in the status is compared, and never believed."""

    metadata: _Metadata
    status: msgspec.Raw = msgspec.Raw(b"null")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Found) and self.metadata == other.metadata and bytes(self.status) == bytes(other.status)
        )

    __hash__ = None  # type: ignore[assignment]


_found = msgspec.json.Decoder(_Found)


def _state(status: ProxyStatus) -> ProxyState:
    in_step = frozenset[str]()
    if not status.on_its_way and not status.error:
        in_step = frozenset(each.type for each in status.types if each.state is SyncState.SYNCED)
    refused = tuple((each.type, words) for each in status.types for _, words in each.rejected)
    return ProxyState(status.identity.namespace, status.node.pod, in_step, refused)
