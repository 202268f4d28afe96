"""What one client wants, holds and was last sent of one type of resource; values only, no I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from mutua.envoy.memo import remembered
from mutua.envoy.resource_set import Resource, Section

ABSENT: Final = ""
"""The version of a resource of which the client was told that there is none."""

WILDCARD: Final = "*"


class Rejection(msgspec.Struct, frozen=True):
    """A resource that Envoy refused: which version, and why in Envoy's own words."""

    version: str
    reason: str


@dataclass(frozen=True)
class Push:
    """One answer on its way: it is acknowledged or refused as a whole."""

    nonce: str
    changed: tuple[Resource, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """What a client must be told to hold what it should."""

    changed: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.changed or self.removed)


@dataclass(frozen=True)
class Subscription:
    """One type on one stream."""

    wildcard: bool = False
    names: frozenset[str] = frozenset()
    known: Mapping[str, str] = field(default_factory=dict)
    """Name to version of all that the client holds or has refused: neither is worth sending again."""
    base: Section | None = None
    """A section of which the client was told all that it wants, and nothing newer that was not asked for by name.

    Clients with equal bases share the work of comparing; without one everything is compared.
    """
    owed: frozenset[str] = frozenset()
    """Due whether changed or not: just asked for, or needed by a cluster that changed."""
    suspects: tuple[tuple[str, ...], ...] = ()
    """Parts of a refused answer, to be sent again one by one until those at fault are alone."""
    rejected: Mapping[str, Rejection] = field(default_factory=dict)
    pending: Push | None = None
    answered: bool = False


def asked(subscription: Subscription, names: Iterable[str]) -> Subscription:
    """The client asks for `names`; even those that it has are answered, as the protocol demands."""
    wanted = frozenset(names)
    named = wanted - {WILDCARD}
    return replace(
        subscription,
        wildcard=subscription.wildcard or WILDCARD in wanted,
        names=subscription.names | named,
        owed=subscription.owed | named,
    )


def dropped(subscription: Subscription, names: Iterable[str]) -> Subscription:
    """The client no longer asks for `names`, and forgets them, except those that the wildcard still covers."""
    unwanted = frozenset(names)
    wildcard = subscription.wildcard and WILDCARD not in unwanted
    remaining = subscription.names - unwanted
    if wildcard:
        return replace(subscription, names=remaining, owed=subscription.owed - unwanted)
    known = {name: version for name, version in subscription.known.items() if name in remaining}
    rejected = {name: each for name, each in subscription.rejected.items() if name in remaining}
    return replace(
        subscription,
        wildcard=False,
        names=remaining,
        owed=subscription.owed & remaining,
        known=known,
        rejected=rejected,
    )


def holding(subscription: Subscription, versions: Mapping[str, str]) -> Subscription:
    """The client says what it holds from an earlier stream."""
    return replace(subscription, known=dict(versions), base=None)


def due(subscription: Subscription, section: Section, *, only_owed: bool = False, keep: bool = False) -> Difference:
    """What the client must be told now.

    `only_owed`: nothing but what it asked for. `keep`: nothing is taken away yet.
    """
    if subscription.suspects and not only_owed:
        return _again(subscription.suspects[0], subscription, section)
    difference = _of_names(_to_compare(subscription, section, only_owed=only_owed), subscription, section)
    if keep and difference.removed:
        # A name that was asked for and is not there is no removal: the client waits for the word.
        told = tuple(name for name in difference.removed if name in subscription.owed)
        return Difference(changed=difference.changed, removed=told)
    return difference


def sent(subscription: Subscription, push: Push, section: Section, *, complete: bool) -> Subscription:
    """The state after `push`, which was made from `section`, left. `complete`: it held all that was due."""
    told = {each.name for each in push.changed} | set(push.removed)
    known = dict(subscription.known)
    known.update((each.name, each.version) for each in push.changed)
    for name in push.removed:
        if name in subscription.names:
            known[name] = ABSENT
        else:
            known.pop(name, None)
    unmoved = subscription.base is not None and subscription.base == section
    return replace(
        subscription,
        known=known,
        base=section if complete or unmoved else None,
        owed=subscription.owed - told,
        suspects=subscription.suspects[1:],
        rejected={name: each for name, each in subscription.rejected.items() if name not in told},
        pending=push,
        answered=True,
    )


def in_step(subscription: Subscription, section: Section) -> Subscription:
    """The state of a client to which `section` held nothing new."""
    return subscription if subscription.base is section else replace(subscription, base=section)


def settled(subscription: Subscription, nonce: str, refusal: str | None, *, divisible: bool = True) -> Subscription:
    """The client answered the push with `nonce`: accepted, or refused with Envoy's words. Old nonces mean nothing.

    A refused answer with several resources is sent again in halves (`divisible`), so that the good ones land.
    """
    push = subscription.pending
    if push is None or push.nonce != nonce:
        return subscription
    if refusal is None:
        return replace(subscription, pending=None)
    words = refusal or "refused without a reason"
    rejected = dict(subscription.rejected)
    suspects = subscription.suspects
    if divisible and len(push.changed) > 1:
        names = tuple(each.name for each in push.changed)
        middle = len(names) // 2
        suspects = (names[:middle], names[middle:], *suspects)
    else:
        rejected.update((each.name, Rejection(version=each.version, reason=words)) for each in push.changed)
    return replace(subscription, pending=None, suspects=suspects, rejected=rejected)


def _to_compare(subscription: Subscription, section: Section, *, only_owed: bool) -> Iterable[str]:
    if only_owed:
        return subscription.owed
    if subscription.base is None:
        every = subscription.names | subscription.owed | subscription.known.keys()
        return every | section.resources.keys() if subscription.wildcard else every
    moved = _moved(subscription.base, section)
    return subscription.owed | (moved if subscription.wildcard else moved & subscription.names)


@remembered(limit=1024)
def _moved(before: Section, after: Section) -> frozenset[str]:
    """The names that are not the same in both sections; asked once for all clients that make this step."""
    if before == after:
        return frozenset()
    return frozenset(
        name
        for name in before.resources.keys() | after.resources.keys()
        if before.versions.get(name) != after.versions.get(name)
    )


def _of_names(names: Iterable[str], subscription: Subscription, section: Section) -> Difference:
    changed: list[Resource] = []
    removed: list[str] = []
    for name in sorted(names):
        resource = section.resources.get(name)
        if resource is None:
            if name in subscription.owed or subscription.known.get(name, ABSENT) != ABSENT:
                removed.append(name)
        elif name in subscription.owed or subscription.known.get(name) != resource.version:
            changed.append(resource)
    return Difference(changed=tuple(changed), removed=tuple(removed))


def _again(names: tuple[str, ...], subscription: Subscription, section: Section) -> Difference:
    return Difference(changed=tuple(section.resources[name] for name in names if name in section.resources))
