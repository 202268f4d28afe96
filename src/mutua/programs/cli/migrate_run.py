"""Running a migration: look, let the machine decide, write down what it decided, make it so, and again."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

import msgspec

from mutua.errors import ConflictError, MutuaError, UnavailableError
from mutua.mesh import peer_authentication
from mutua.mesh.proxy_view import MtlsMode
from mutua.migration import groups, live, machine, plan, policies, tally, words
from mutua.migration.groups import Group
from mutua.migration.machine import Migration, Observation, Progress, Stage
from mutua.migration.plan import Plan
from mutua.migration.scene import Scene
from mutua.programs.cli import common, migrate_lease
from mutua.programs.cli.control_plane import Look, Watch
from mutua.programs.cli.migrate_cluster import HISTORY_AT_MOST, Cluster, Here, Record
from mutua.system import clock
from mutua.system.kube_errors import KubeError

LOOK_SECONDS: Final = 0.2
LIST_SECONDS: Final = 1.0
"""Pods and policies are read anew this often while nothing is being switched."""
GIVE_UP: Final = timedelta(seconds=60)
"""For so long a cluster that does not answer is asked to roll back; then the person has to."""
_SIGNS_OF_LIFE: Final = 10
_SWITCHING: Final = frozenset({Stage.SWITCH, Stage.NAMESPACE, Stage.REPLACE, Stage.BACK})


class Wishes(msgspec.Struct, frozen=True):
    """What the user asked for."""

    target: MtlsMode
    soak_seconds: float
    rollback_on: int
    forced: bool
    window: timedelta


async def run(cluster: Cluster, wishes: Wishes) -> Migration:
    """Runs a migration to its end, or goes on with one that was left; its final state.

    Raises ConflictError if another run is under way, NotFoundError for a namespace that is not there, KubeError.
    """
    progress = _Progress()
    async with (
        migrate_lease.held(cluster.kube, cluster.namespace, progress.say) as lost,
        Watch(cluster.kube, cluster.chosen, cluster.namespace) as watch,
    ):
        return await _Run(cluster, wishes, watch, lost, progress).to_the_end()


class _Progress:
    """Lines with the time that has passed."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last_sign = self._began

    def say(self, line: str) -> None:
        common.say(f"{time.monotonic() - self._began:7.1f}s  {line}")
        self._last_sign = time.monotonic()

    def sign_of_life(self, state: Migration) -> None:
        """Now and then, so that a long soak does not look like a hang."""
        if time.monotonic() - self._last_sign >= max(_SIGNS_OF_LIFE, state.soak_seconds / _SIGNS_OF_LIFE):
            self.say(words.soaking(state, clock.now()))


class _Run:
    def __init__(
        self, cluster: Cluster, wishes: Wishes, watch: Watch, lost: asyncio.Event, progress: _Progress
    ) -> None:
        self._cluster = cluster
        self._wishes = wishes
        self._watch = watch
        self._lost = lost
        self._progress = progress
        self._record = Record()
        self._groups: tuple[Group, ...] = ()
        self._root_namespace = ""
        self._names: dict[str, str] = {}  # pod → workload, those that are gone included
        self._here: Here | None = None
        self._here_at = float("-inf")
        self._answered_at = time.monotonic()
        self._interrupted = False
        self._trouble = ""

    async def to_the_end(self) -> Migration:
        with _interruptions(self._interrupt):
            state = await self._beginning()
            applied: Migration | None = None
            while True:
                if self._lost.is_set():
                    await self._cluster.demand_namespace()
                    raise ConflictError(
                        f"another run has taken over the migration of {self._cluster.namespace}",
                        f"`mutua migrate status -n {self._cluster.namespace}` shows how far it is",
                    )
                if applied is not state:
                    applied = state if await self._make_so(state) else None
                if state.stage.is_final and applied is state:
                    return state
                following = machine.advance(state, await self._observe(state, is_applied=applied is state))
                if following is not state:
                    for line in words.transition(state, following):
                        self._progress.say(line)
                    state = following
                    await self._keep(state)
                    continue
                self._give_up_if_cut_off(state)
                if machine.due(state):
                    self._progress.sign_of_life(state)
                await asyncio.sleep(LOOK_SECONDS)

    def _interrupt(self) -> None:
        self._interrupted = True
        self._progress.say("interrupted; once more ends this program at once, as it stands")

    async def _beginning(self) -> Migration:
        """The state to go on from, written down."""
        self._record = await self._cluster.record()
        earlier = self._record.state
        scene, planned, look = await self._plan()
        now = clock.now()
        if earlier and not earlier.stage.is_final and earlier.target is self._wishes.target:
            soak = words.span(earlier.soak_seconds)
            self._progress.say(f"going on with what {earlier.by} began at {earlier.began:%H:%M:%S}, soak {soak}")
            state = machine.resumed(earlier, now)
        else:
            history = (*self._record.history, msgspec.structs.replace(earlier, baseline=())) if earlier else ()
            self._record = Record(None, tuple(history[-HISTORY_AT_MOST:]))
            state = Migration(
                namespace=self._cluster.namespace,
                target=self._wishes.target,
                steps=planned.steps,
                rest=planned.rest,
                before=policies.before(scene.world.objects, self._cluster.namespace),
                soak_seconds=self._wishes.soak_seconds,
                rollback_on=self._wishes.rollback_on,
                forced=self._wishes.forced,
                by=await self._cluster.user(),
                began=now,
                since=now,
                baseline=tally.baseline(look.counted, self._cluster.namespace),
            )
        await self._keep(state)
        return state

    async def _plan(self) -> tuple[Scene, Plan, Look]:
        look = await self._watch.look()
        scene = await self._cluster.scene(self._wishes.target, self._wishes.window)
        self._groups = scene.groups
        self._root_namespace = scene.world.mesh_config.root_namespace
        return scene, plan.make(scene, (seen for _, seen in look.counted)), look

    async def _make_so(self, state: Migration) -> bool:
        """Whether the cluster holds what the state wants."""
        try:
            await self._cluster.apply(state)
        except KubeError as error:
            await self._trouble_with(error)
            return False
        self._here_at = float("-inf")
        return True

    async def _observe(self, state: Migration, *, is_applied: bool) -> Observation:
        lagging: tuple[str, ...] = ("the API server",)
        refusals: tuple[machine.Refusal, ...] = ()
        blockers: tuple[str, ...] = ()
        changed = ""
        try:
            look = await self._watch.look()
            self._answered_at = time.monotonic()
            here = await self._here_now(state)
            if is_applied:
                changed = here.difference(state)
                policies_here = peer_authentication.policies_for(state.namespace, self._root_namespace, here.policies)
                lagging = live.lagging(policies_here, here.workloads, look.proxies)
            refusals = tally.refusals(
                look.counted, state.namespace, dict(state.baseline), lambda pod: self._names.get(pod, "")
            )
            if state.stage is Stage.READY and not state.forced:
                _, planned, _ = await self._plan()
                blockers = tuple(f"{item.client}: {item.why}" for item in planned.blockers)
            self._trouble = ""
        except MutuaError as error:
            await self._trouble_with(error)
            if state.stage is Stage.READY:
                blockers = (f"somebody whom nobody sees: {error.message}",)
        blind = timedelta(seconds=time.monotonic() - self._answered_at)
        return Observation(clock.now(), lagging, refusals, blind, blockers, changed, self._interrupted)

    async def _here_now(self, state: Migration) -> Here:
        if self._here is None or state.stage in _SWITCHING or time.monotonic() - self._here_at > LIST_SECONDS:
            self._here = await self._cluster.here(self._root_namespace)
            self._here_at = time.monotonic()
            for workload in self._here.workloads:
                group = groups.group_of(self._groups, workload.labels)
                if group is not None:
                    self._names[workload.name] = group.name
            self._names |= {pod: group.name for group in self._groups for pod in group.pods}
        return self._here

    async def _keep(self, state: Migration) -> None:
        self._record = msgspec.structs.replace(self._record, state=state)
        try:
            await self._cluster.save(self._record)
        except KubeError as error:
            if state.stage not in (Stage.BACK, Stage.STOPPED):
                await self._cluster_is_there()
                raise
            # What cannot be written down must not keep anybody from rolling back.
            await self._trouble_with(error)

    async def _trouble_with(self, error: MutuaError) -> None:
        await self._cluster_is_there()
        if error.message != self._trouble:
            self._trouble = error.message
            self._progress.say(error.message)

    async def _cluster_is_there(self) -> None:
        """Raises NotFoundError if the namespace is gone: then there is nothing to lead anywhere."""
        with contextlib.suppress(KubeError):
            await self._cluster.demand_namespace()

    def _give_up_if_cut_off(self, state: Migration) -> None:
        if state.stage is Stage.BACK and self._trouble and clock.now() - state.since > GIVE_UP:
            undone = ", ".join(state.named(Progress.UNDONE)) or f"the namespace {state.namespace}"
            raise UnavailableError(
                f"the cluster does not answer, so {undone} may still be STRICT: {self._trouble}",
                f"`mutua migrate run -n {state.namespace} --to {state.target.value}` goes on with the roll-back",
            )


@contextlib.contextmanager
def _interruptions(interrupt: Callable[[], None]) -> Iterator[None]:
    """The first signal lets the run end in order, the second one ends the program."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def first() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.default_int_handler)
        interrupt()

    for number in numbers:
        loop.add_signal_handler(number, first)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
