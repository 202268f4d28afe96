"""In which order proxies learn of a change of mutual TLS, so that no request is lost to it.

Servers first take the old and the new kind of connection, then clients change, then servers refuse the old kind. Each
step waits for the acknowledgements of the one before, and a little longer; all together at most `BOUND_SECONDS`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import msgspec

from mutua.envoy.memo import remembered
from mutua.envoy.resource_set import CLUSTER, ENDPOINT, LISTENER
from mutua.mesh.proxy_view import InboundView, LoadAssignment, MtlsMode, OutboundView, ProxyView

BOUND_SECONDS: Final = 5.0
"""A proxy that acknowledges nothing must not hold up a policy for longer than this."""

CALM_SECONDS: Final = 0.25
"""Envoy acknowledges before its workers have taken a change over: this long nothing may be outstanding."""


class Phase(Enum):
    """What happens now."""

    WIDEN = "servers take both kinds of connections"
    MOVE = "clients change"


AWAITED: Final = {Phase.WIDEN: (LISTENER,), Phase.MOVE: (CLUSTER, ENDPOINT)}
"""Whose acknowledgements each phase waits for."""


@dataclass(frozen=True)
class Rollout:
    """A change on its way; times are seconds of a steady clock."""

    phase: Phase
    deadline: float
    calm_since: float | None = None

    @property
    def due(self) -> float:
        """When to look again, even if nobody acknowledges anything until then."""
        return self.deadline if self.calm_since is None else min(self.deadline, self.calm_since + CALM_SECONDS)


def begun(active: Rollout | None, changes: Iterable[tuple[ProxyView, ProxyView]], now: float) -> Rollout | None:
    """The rollout of `changes`, (what a proxy was given, what it should have); None if all may go out at once.

    A change that comes while another is on its way begins anew with it, within the time that the first one has.
    """
    if active is not None:
        return Rollout(Phase.WIDEN, active.deadline) if now < active.deadline else None
    servers = clients = False
    for held, target in changes:
        servers = servers or _modes_differ(held.inbound, target.inbound)
        clients = clients or moves(held, target)
        if servers and clients:
            return Rollout(Phase.WIDEN, now + BOUND_SECONDS)
    return None


def advanced(rollout: Rollout, now: float, *, outstanding: bool) -> Rollout | None:
    """The rollout at this moment; None once servers may refuse what they took before.

    `outstanding`: some proxy has yet to acknowledge what the phase gave it.
    """
    if now >= rollout.deadline:
        return None
    if outstanding:
        return replace(rollout, calm_since=None)
    if rollout.calm_since is None:
        return replace(rollout, calm_since=now)
    if now < rollout.calm_since + CALM_SECONDS:
        return rollout
    return Rollout(Phase.MOVE, rollout.deadline) if rollout.phase is Phase.WIDEN else None


def given(phase: Phase | None, held: ProxyView, target: ProxyView) -> ProxyView:
    """What a proxy is to have in a phase, on its way from `held` to `target`."""
    if phase is None:
        return target
    inbound = widened(held.inbound, target.inbound)
    if phase is Phase.WIDEN and moves(held, target):
        return ProxyView(target.mesh, inbound, held.outbound, held.endpoints)
    return target if inbound == target.inbound else msgspec.structs.replace(target, inbound=inbound)


def moves(held: ProxyView, target: ProxyView) -> bool:
    """Whether the proxy, as a client, is to dial anything otherwise than it does: with mutual TLS or without."""
    if held.outbound is target.outbound and held.endpoints is target.endpoints:
        return False
    return _dials_differ(held.outbound, target.outbound) or _endpoints_differ(held.endpoints, target.endpoints)


@remembered(limit=1024)
def widened(held: InboundView, target: InboundView) -> InboundView:
    """`target`, with ports that take what they took under `held` as well; equal to `target` if they do anyway."""
    if not _modes_differ(held, target):
        return target
    default = _either(held.default_mode, target.default_mode)
    ports = tuple(
        msgspec.structs.replace(port, mode=_either(_mode(held, port.number), port.mode)) for port in target.ports
    )
    named = {port.number for port in ports}
    others = {number for number, _ in (*held.port_modes, *target.port_modes)} | {port.number for port in held.ports}
    modes = ((number, _either(_mode(held, number), _mode(target, number))) for number in sorted(others - named))
    port_modes = tuple((number, mode) for number, mode in modes if mode is not default)
    return msgspec.structs.replace(target, default_mode=default, port_modes=port_modes, ports=ports)


def _modes_differ(held: InboundView, target: InboundView) -> bool:
    if held is target or held.default_mode is not target.default_mode:
        return held is not target
    numbers = {*_numbers(held), *_numbers(target)}
    return any(_mode(held, number) is not _mode(target, number) for number in numbers)


def _numbers(view: InboundView) -> Iterator[int]:
    yield from (number for number, _ in view.port_modes)
    yield from (port.number for port in view.ports)


def _mode(view: InboundView, number: int) -> MtlsMode:
    for port in view.ports:
        if port.number == number:
            return port.mode
    return next((mode for known, mode in view.port_modes if known == number), view.default_mode)


def _either(one: MtlsMode, other: MtlsMode) -> MtlsMode:
    """The mode in which a port takes what it takes in one or in the other."""
    return one if one is other else MtlsMode.PERMISSIVE


@remembered(limit=256)
def _dials_differ(held: OutboundView, target: OutboundView) -> bool:
    before = {(service.host, port.number): port.tls for service in held.services for port in service.ports}
    return any(
        before.get((service.host, port.number), port.tls) != port.tls
        for service in target.services
        for port in service.ports
    )


@remembered(limit=256)
def _endpoints_differ(held: tuple[LoadAssignment, ...], target: tuple[LoadAssignment, ...]) -> bool:
    before = {(each.address, each.port): each.mtls for load in held for each in load.endpoints}
    return any(
        before.get((each.address, each.port), each.mtls) != each.mtls for load in target for each in load.endpoints
    )
