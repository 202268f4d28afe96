"""The authority in force: who signs and which roots are trusted, also while one authority follows another."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from cryptography import x509

from mutua.ca import rollover, rotation
from mutua.ca.authority import Authority
from mutua.ca.bundle import certificates, digest
from mutua.ca.errors import AuthorityError
from mutua.ca.plugged_in import SigningFiles
from mutua.ca.rollover import Digests, Holding, Lagging, Pod, Rollover, Stage
from mutua.programs.control_plane.ca_store import PLUGGED_IN, RECORD, SELF_SIGNED, CaStore, Record, new_root
from mutua.system import clock
from mutua.system.kube_errors import KubeError
from mutua.system.kube_resources import CONFIG_MAPS, SECRETS, Resource
from mutua.system.logs import Log

ROLLING_SECONDS = 1.0
SETTLED_SECONDS = 60.0
"""How often everything is looked at without an event: expiry, and events that got lost."""

DEBOUNCE_SECONDS = 0.2

_LOG = Log("ca")


class InForce(NamedTuple):
    """What holds now. `authority.roots` are all that workloads trust of ours: both sets while one follows the other."""

    authority: Authority
    state: Rollover
    revoked: bytes = b""
    foreign: tuple[tuple[str, str], ...] = ()  # (trust domain, its roots), of other meshes
    signs_workloads: bool = True  # False: an external authority does, and this one signs for the control plane only

    def same_as(self, other: "InForce") -> bool:
        """Whether nobody could tell the two apart."""
        ours, theirs = (each._replace(authority=each.authority.id) for each in (self, other))  # type: ignore[arg-type]
        return ours == theirs

    @property
    def announcement(self) -> dict[str, str]:
        """What agents compare with what they hold: a difference makes them renew, or tell again."""
        return {"issuer": self.authority.issuer_id if self.signs_workloads else "", "nudge": str(self.state.nudge)}


class Besides(NamedTuple):
    """What the mesh's settings add to its own authority."""

    roots: bytes = b""  # PEM; they vouch for the mesh's own trust domains
    foreign: tuple[tuple[str, str], ...] = ()
    signs_workloads: bool = True


class AuthorityKeeper:
    """Keeps one authority in force, and leads the mesh from one to the next.

    `cacerts` is watched: a good one that differs begins a rollover; a bad one is refused, and what was in force stays.
    All replicas run this; each step is committed in the cluster by whoever is first.
    """

    def __init__(
        self,
        store: CaStore,
        trust_domain: str,
        proxies: Callable[[], frozenset[Pod] | None],
        announced: Callable[[], bool],
        besides: Callable[[], Besides] = Besides,
        now: clock.Clock = clock.now,
    ) -> None:
        """`proxies`: the pods with a sidecar, None while unknown. `announced`: are the roots written everywhere?

        `besides`: what the settings add, asked for whenever something is looked at; `look` says that it changed.
        """
        self._store = store
        self._trust_domain = trust_domain
        self._proxies = proxies
        self._announced = announced
        self._besides = besides
        self._now = now
        self._wake = asyncio.Event()
        self._told: dict[Pod, Holding] = {}  # what was told to this replica and is not written yet
        self._listeners: list[Callable[[InForce], None]] = []
        self.in_force: InForce | None = None
        self.lagging: tuple[Lagging, ...] = ()
        self.problem = ""  # what is wrong with `cacerts`, or why nothing is in force

    @property
    def authority(self) -> Authority | None:
        """Who signs; None while nothing may be signed."""
        return self.in_force.authority if self.in_force else None

    def on_change(self, listener: Callable[[InForce], None]) -> None:
        """Call `listener` whenever signer, roots or announcement change."""
        self._listeners.append(listener)

    def told(self, pod: Pod, holding: Holding) -> None:
        """A proxy has said what it holds."""
        if self.in_force is not None and self.in_force.state.stage is not Stage.SETTLED:
            self._told[pod] = holding
            self._wake.set()

    def look(self) -> None:
        """Something changed: look at once."""
        self._wake.set()

    async def start(self) -> InForce:
        """What is in force, as soon as something is. A mesh whose only authority is broken waits here, and says why."""
        while self.in_force is None:
            try:
                await self._reconcile()
            except KubeError as error:
                self._trouble(f"the authority cannot be read: {error.message}")
            if self.in_force is None and self.problem:
                await asyncio.sleep(ROLLING_SECONDS)
        return self.in_force

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for resource, name in ((SECRETS, PLUGGED_IN), (CONFIG_MAPS, RECORD)):
                group.create_task(self._follow(resource, name))
            group.create_task(self._keep())

    async def _follow(self, resource: Resource, name: str) -> None:
        watch = self._store.kube.watch(resource, self._store.namespace, field_selector=f"metadata.name={name}")
        async for _event in watch:
            self._wake.set()

    async def _keep(self) -> None:
        while True:
            rolling = self.in_force is not None and self.in_force.state.stage is not Stage.SETTLED
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROLLING_SECONDS if rolling else SETTLED_SECONDS):
                    await self._wake.wait()
            await asyncio.sleep(DEBOUNCE_SECONDS)
            self._wake.clear()
            try:
                await self._reconcile()
            except KubeError as error:
                _LOG.warn("the authority's state cannot be read; what is in force stays", error=error.message)

    async def _reconcile(self) -> None:
        told, self._told = self._told, {}
        try:
            await self._store.write_holdings(told)
        except KubeError:
            self._told = told | self._told
            raise
        record = await self._store.record()
        vault = await self._store.vault()
        signer = record.state.successor if record.state.stage in (Stage.RENEW, Stage.RETIRE) else record.state.issuer
        if self._usable(vault, signer) is None:
            await self._adopt(record)
            return
        try:
            self._apply(record.state, vault)
        except AuthorityError as error:  # between two looks at the clock, or a root that cannot be read
            self._trouble(f"{error}; what was in force stays")
            return
        plugged_in = await self._plugged_in()
        if record.state.stage is Stage.SETTLED:
            await self._settled(record, vault, plugged_in)
        else:
            await self._rolling(record, vault)

    async def _settled(self, record: Record, vault: dict[str, SigningFiles], plugged_in: SigningFiles | None) -> None:
        state, now = record.state, self._now()
        if plugged_in is not None:
            identifier = plugged_in.load(now).id
            if identifier == state.issuer:
                if plugged_in.as_files() != vault[identifier].as_files():
                    await self._store.keep(identifier, plugged_in)  # a new revocation list, for example
                    self._wake.set()
            elif identifier != state.declined:
                reason = f"secret {PLUGGED_IN} was {'replaced' if state.origin == PLUGGED_IN else 'added'}"
                await self._begin(record, plugged_in, PLUGGED_IN, reason)
                return
        if record.request == "rotate":
            if state.origin == PLUGGED_IN and plugged_in is not None:
                _LOG.error(
                    "rotation refused: the authority is plugged in; replace the secret instead", secret=PLUGGED_IN
                )
                await self._store.write_state(record, state)
                return
            await self._begin(record, new_root(self._trust_domain, now), SELF_SIGNED, "requested")
        elif record.request:
            _LOG.warn("nothing to do for a request: no rotation is under way", request=record.request)
            await self._store.write_state(record, state)
        elif state.origin == SELF_SIGNED and (authority := self.authority) is not None:
            root = authority.certificate
            if rotation.root_is_due(root.not_valid_before_utc, root.not_valid_after_utc, now):
                reason = f"the root ends on {root.not_valid_after_utc:%Y-%m-%d}"
                await self._begin(record, new_root(self._trust_domain, now), SELF_SIGNED, reason)

    async def _begin(self, record: Record, files: SigningFiles, origin: str, reason: str) -> None:
        successor = files.load(self._now()).id
        await self._store.keep(successor, files)
        state = rollover.begin(record.state, successor, origin, reason, self._now())
        if await self._store.write_state(record, state):
            _LOG.info("rotation of the authority begins", reason=reason, issuer=state.issuer, successor=successor)
        self._wake.set()

    async def _rolling(self, record: Record, vault: dict[str, SigningFiles]) -> None:
        if record.state.successor not in vault:
            _LOG.error(
                "the successor's files are gone from the cluster; the rotation ends where it began", secret=RECORD
            )
            ended = Rollover(
                issuer=record.state.issuer,
                origin=record.state.origin,
                since=self._now(),
                nudge=record.state.nudge + 1,
                declined=record.state.successor,
            )
            await self._store.write_state(record, ended, forget_holdings=True)
            self._wake.set()
            return
        state, now = self._requested(record), self._now()
        proxies = self._proxies()
        digests = _digests(state, vault, self._besides())
        self.lagging = () if proxies is None else rollover.lagging(state, proxies, record.holdings, digests)
        if proxies is not None and state is record.state:
            state = rollover.advance(state, proxies, record.holdings, digests, now, announced=self._announced())
        if state == record.state and not record.request:
            return
        settles = state.stage is Stage.SETTLED
        if settles and state.origin == SELF_SIGNED:
            await self._store.write_self_signed(vault[state.issuer])
        if not await self._store.write_state(record, state, forget_holdings=settles):
            self._wake.set()
            return
        if settles:
            await self._store.keep_only(state.issuer)
            self.lagging = ()
        if state.stage is not record.state.stage:
            _LOG.info("rotation of the authority goes on", stage=state.stage, reason=record.state.reason)
        self._wake.set()
        self._apply(state, vault)

    def _requested(self, record: Record) -> Rollover:
        match record.request:
            case "pause" | "resume":
                _LOG.info("rotation of the authority", request=record.request)
                return rollover.paused(record.state, record.request == "pause")
            case "abort":
                aborted = rollover.abort(record.state, self._now())
                _LOG.warn("rotation of the authority aborted" if aborted is not record.state else "too late to abort")
                return aborted
            case _:
                return record.state

    async def _adopt(self, record: Record) -> None:
        """Nothing usable is kept: a mesh that starts, or one whose authority has expired or was deleted."""
        now = self._now()
        try:
            files, origin = await self._store.plugged_in(), PLUGGED_IN
            if files is None:
                files, origin = await self._store.self_signed(self._trust_domain, now), SELF_SIGNED
            authority = files.verify(now)
        except AuthorityError as error:
            consequence = "the last good authority stays in force" if self.in_force else "nothing is signed"
            self._trouble(f"{error}; {consequence} until it is mended")
            return
        await self._store.keep(authority.id, files)
        if await self._store.write_state(record, Rollover(issuer=authority.id, origin=origin, since=now)):
            _LOG.info("signing", secret=origin, expires=_expiry(authority))
            self._trouble("")
        self._wake.set()

    async def _plugged_in(self) -> SigningFiles | None:
        """What `cacerts` holds if it can be used; otherwise the reason is told, and nothing changes."""
        try:
            files = await self._store.plugged_in()
            if files is not None:
                files.verify(self._now())
        except AuthorityError as error:
            self._trouble(f"{_named(error)}. It is not used; the last good authority stays in force")
            return None
        gone = files is None and self.in_force is not None and self.in_force.state.origin == PLUGGED_IN
        self._trouble(
            f"secret {PLUGGED_IN} is gone; its authority stays in force. `mutua ca rotate` leads to a self-signed one"
            if gone
            else ""
        )
        return files

    def _usable(self, vault: dict[str, SigningFiles], identifier: str) -> Authority | None:
        files = vault.get(identifier)
        if files is None:
            return None
        try:
            return files.load(self._now())
        except AuthorityError as error:
            _LOG.error("the authority in force cannot be used any more", problem=str(error))
            return None

    def _apply(self, state: Rollover, vault: dict[str, SigningFiles]) -> None:
        found = compose(state, vault, self._now(), self._besides())
        if self.in_force is not None and found.same_as(self.in_force):
            return
        self.in_force = found
        for listener in self._listeners:
            listener(found)

    def _trouble(self, problem: str) -> None:
        if problem != self.problem:
            if problem:
                _LOG.error("the plugged-in authority is not used" if self.in_force else "no authority", problem=problem)
            else:
                _LOG.info("the authority is in order again")
            self.problem = problem


def compose(state: Rollover, vault: dict[str, SigningFiles], now: datetime, besides: Besides) -> InForce:
    """Signer and roots of a stage, and what the settings add.

    Raises AuthorityError, KeyError if a named authority is not in the vault.
    """
    both = state.stage in (Stage.DISTRIBUTE, Stage.RENEW)
    signs = state.issuer if state.stage in (Stage.SETTLED, Stage.DISTRIBUTE) else state.successor
    signer = vault[signs].load(now)
    # In an order that a change of signer leaves alone: nobody is told of roots that did not change.
    named = [name for name in (state.issuer, state.successor) if name in vault] if both else [signs]
    lists, besides = _weighed([vault[name] for name in named], besides)
    roots = dict.fromkeys((*(root for name in named for root in vault[name].load_roots()), *_roots(besides)))
    authority = dataclasses.replace(signer, roots=tuple(roots))
    return InForce(authority, state, lists, besides.foreign, besides.signs_workloads)


def _weighed(named: list[SigningFiles], besides: Besides) -> tuple[bytes, Besides]:
    """The revocation lists of these authorities, and what may be trusted besides them.

    With lists for some authorities only, Envoy would refuse everybody below the others. So during a rollover there are
    none unless both authorities have them; and where there are some, nobody else is trusted, except an external
    authority, whose workloads they do not concern.
    """
    lists = [files.revoked for files in named]
    if not besides.signs_workloads or not all(lists):
        return b"", besides
    return b"\n".join(lists), Besides()


def _digests(state: Rollover, vault: dict[str, SigningFiles], besides: Besides) -> Digests:
    successor, both = [vault[state.successor]], [vault[state.successor]]
    if state.issuer in vault:
        both.append(vault[state.issuer])

    def of(named: list[SigningFiles]) -> str:
        _, trusted = _weighed(named, besides)
        return digest((*(root for files in named for root in files.load_roots()), *_roots(trusted)))

    return Digests(of(both), of(successor), besides.signs_workloads)


def _roots(besides: Besides) -> tuple[x509.Certificate, ...]:
    return certificates(besides.roots) if besides.roots else ()


def _named(error: AuthorityError) -> str:
    text = str(error)
    return text if PLUGGED_IN in text else f"secret {PLUGGED_IN} cannot be used: {text}"


def _expiry(found: Authority) -> str:
    return f"{found.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
