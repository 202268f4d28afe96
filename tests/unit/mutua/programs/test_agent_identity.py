"""The agent's certificate in virtual time: outages to the last moment, clocks that jump, nights asleep, no storms."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509

from fakes.certificates import root_authority
from mutua.ca.authority import Authority
from mutua.errors import UnavailableError
from mutua.programs import agent_identity, agent_settings
from mutua.programs.agent_identity import WorkloadIdentity
from mutua.programs.agent_trust import Told
from mutua.secret import Secret
from mutua.system.ca_client import IdentityStatement, WorkloadCertificate

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(hours=24)


class TimesUpError(Exception):
    """The test has seen what it wanted."""


class World:
    """A clock that only moves when somebody waits, a control plane, an Envoy and the mesh's files."""

    def __init__(self, lifetime: timedelta = DAY) -> None:
        self.now = START
        self.lifetime = lifetime
        self.authority: Authority = root_authority(START)
        self.away: Callable[[datetime], bool] = lambda now: False
        self.jumps: list[tuple[datetime, timedelta]] = []
        self.told = Told(self.authority.root_bundle.encode())
        self.later: list[tuple[datetime, Told]] = []
        self.end = START + timedelta(days=3)
        self.asked: list[datetime] = []
        self.issued: list[datetime] = []
        self.published: list[bytes] = []
        self.statements: list[IdentityStatement] = []
        self.expired_for = timedelta(0)
        self._expires = START

    def clock(self) -> datetime:
        return self.now

    def pass_time(self, moment: datetime) -> None:
        """Until then, or until the clock is set or a file changes, whichever comes first."""
        events = [at for at, _ in (*self.jumps, *self.later) if at > self.now]
        reached = max(self.now, min([moment, self.end, *events]))
        if self.issued:
            self.expired_for += max(timedelta(0), reached - max(self.now, self._expires))
        self.now = reached
        for at, by in [jump for jump in self.jumps if jump[0] <= reached]:
            self.jumps.remove((at, by))
            self.now += by
        if self.now >= self.end:
            raise TimesUpError

    # The control plane
    async def certificate(self, current: WorkloadCertificate | None, roots: bytes) -> WorkloadCertificate:
        self.asked.append(self.now)
        if self.away(self.now):
            raise UnavailableError("nobody answers")
        self.issued.append(self.now)
        self._expires = self.now + self.lifetime
        return WorkloadCertificate(
            key=Secret(b"key"),
            chain=b"chain",
            roots=self.authority.root_bundle.encode(),
            serial=len(self.issued),
            issuer=self.authority.issuer_id,
            created=self.now,
            expires=self._expires,
        )

    async def report(self, current: WorkloadCertificate, statement: IdentityStatement, roots: bytes) -> None:
        if self.away(self.now):
            raise UnavailableError("nobody answers")
        self.statements.append(statement)

    # Envoy
    def publish(self, chain: bytes, key: Secret, roots: bytes, revoked: bytes, trust: object) -> None:
        self.published.append(roots)

    async def acknowledged(self, seconds: float) -> bool:
        return True

    # The mesh's files
    def read(self) -> Told:
        return self.told

    async def changed(self, known: Told, seconds_left: Callable[[], float]) -> Told | None:
        while seconds_left() > 0:
            for at, told in self.later:
                if self.now >= at:
                    self.told = told
            if self.told != known:
                return self.told
            self.pass_time(self.now + timedelta(seconds=seconds_left()))
            await asyncio.sleep(0)
        self.pass_time(self.now)
        return None


@pytest.fixture
def world() -> World:
    """Time stands at its start."""
    random.seed(7)
    return World()


def settings(**changes: Any) -> agent_settings.AgentSettings:
    environment = {"POD_NAMESPACE": "shop", "POD_NAME": "web-0", "INSTANCE_IP": "10.0.0.1"}
    return msgspec.structs.replace(agent_settings.read(environment), root_path=Path("/nowhere"), **changes)


def live(world: World, **changes: Any) -> None:
    """One agent until the world's end."""
    identity = WorkloadIdentity(settings(**changes), world, world, world, world.clock)  # type: ignore[arg-type]
    keep: Awaitable[None] = identity.keep()
    with pytest.raises(TimesUpError):
        asyncio.run(keep)  # type: ignore[arg-type]


def gaps(world: World) -> list[timedelta]:
    return [later - earlier for earlier, later in zip(world.issued, world.issued[1:], strict=False)]


def test_renewed_at_four_fifths_with_jitter(world: World) -> None:
    """24 h certificates, three days: three renewals, each at 80 % give or take one."""
    live(world)
    assert len(world.issued) == 4
    for gap in gaps(world):
        assert abs(gap - DAY * 0.8) <= DAY * 0.0101


def test_an_outage_until_the_last_minute(world: World) -> None:
    """Renewal fails for 4.7 h, the certificate never expires, and five seconds after the return it is renewed."""
    back = START + timedelta(hours=23, minutes=55)
    world.away = lambda now: START + timedelta(hours=1) < now < back
    live(world)
    assert world.expired_for == timedelta(0)
    assert timedelta(0) <= world.issued[1] - back <= timedelta(seconds=6)
    during = [moment for moment in world.asked if START + timedelta(hours=1) < moment < back]
    assert len(during) < 6000  # every four seconds or so, no storm
    told = [statement for statement in world.statements if statement.error]
    assert world.statements[-1].error == ""
    assert not told or "nobody answers" in told[0].error


def test_asleep_for_ten_hours(world: World) -> None:
    """A machine wakes after the certificate's end: seconds later there is a new one."""
    world.jumps = [(START + timedelta(hours=19), timedelta(hours=10))]
    live(world)
    woke = START + timedelta(hours=29)
    assert timedelta(0) <= world.issued[1] - woke <= timedelta(seconds=5)


@pytest.mark.parametrize("hours", [-24, -1, 1, 5])
def test_a_clock_that_is_set(world: World, hours: int) -> None:
    """However the clock jumps, certificates go on being renewed, and not in a loop."""
    world.jumps = [(START + timedelta(hours=6), timedelta(hours=hours))]
    live(world)
    assert 3 <= len(world.issued) <= 6


def test_new_roots_do_not_wait_for_the_rotation(world: World) -> None:
    """Envoy trusts both roots at once, and within seconds there is a certificate of the new issuer."""
    old, new = world.authority, root_authority(START)
    change = START + timedelta(hours=2)
    both = old.root_bundle.encode() + new.root_bundle.encode()
    world.later = [(change, Told(both, new.issuer_id, "1"))]
    certificate = world.certificate

    async def by_new_issuer(current: WorkloadCertificate | None, roots: bytes) -> WorkloadCertificate:
        if world.now >= change:
            world.authority = new
        return await certificate(current, roots)

    world.certificate = by_new_issuer  # type: ignore[method-assign]
    world.end = START + timedelta(hours=3)
    live(world)
    assert len(world.issued) == 2
    assert timedelta(0) <= world.issued[1] - change <= timedelta(seconds=4)
    assert set(x509.load_pem_x509_certificates(world.published[1])) == {*old.roots, *new.roots}


def test_files_that_vanish_take_no_trust_away(world: World) -> None:
    """An empty file is somebody's mistake, or a volume being replaced."""
    world.later = [(START + timedelta(hours=1), Told())]
    world.end = START + timedelta(hours=2)
    live(world)
    assert all(world.authority.root_bundle.encode() in roots for roots in world.published)


def test_a_stranger_as_issuer_is_no_loop(world: World) -> None:
    """A file that names an issuer nobody is: some certificates more, then as often as ever."""
    world.later = [(START + timedelta(hours=1), Told(world.told.roots, "nobody", "1"))]
    world.end = START + timedelta(hours=2)
    live(world)
    assert len(world.issued) < 20


def test_a_fleet_does_not_come_at_once() -> None:
    """Agents that started together renew within half an hour of each other, not in one second."""
    seconds = set()
    for seed in range(15):
        random.seed(seed)
        world = World()
        world.end = START + timedelta(hours=20)
        live(world)
        seconds.add(int((world.issued[1] - START).total_seconds()))
    assert len(seconds) > 12
    assert agent_identity.SPREAD_SECONDS > 0


def test_short_lives_are_never_shorter_than_a_second(world: World) -> None:
    """Whatever the settings say."""
    world.lifetime = timedelta(seconds=3)
    world.end = START + timedelta(minutes=2)
    live(world, grace_ratio=1.0)
    assert min(gaps(world)) >= timedelta(seconds=1)
