"""On how many proxies each policy is live, as one replica of the control plane knows it, and as all do together."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from mutua.api import kinds
from mutua.mesh.proxy_view import Frozen, ObjectRef

TRAVELS_IN: Final[Mapping[str, frozenset[str]]] = {
    kinds.PEER_AUTHENTICATION.name: frozenset({"LDS"}),
    kinds.AUTHORIZATION_POLICY.name: frozenset({"LDS", "RDS"}),
    kinds.REQUEST_AUTHENTICATION.name: frozenset({"LDS"}),
    kinds.DESTINATION_RULE.name: frozenset({"CDS", "EDS", "LDS", "RDS"}),
}
"""In which types of resources a kind of policy reaches a proxy."""

REASONS_AT_MOST: Final = 3
REASON_LENGTH: Final = 300
ENTRIES_AT_MOST: Final = 5_000
"""Policies in one replica's report; a report of them all stays below half of what a config map can hold."""


class ProxyState(Frozen, frozen=True):
    """One connected proxy: what it has acknowledged of its newest configuration, and what it refused."""

    namespace: str
    pod: str
    in_step: frozenset[str]  # types, as LDS
    refused: tuple[tuple[str, str], ...] = ()  # (type, Envoy's words)


class Held(Frozen, frozen=True):
    """One policy of one generation, on the proxies of one replica or of all."""

    generation: int
    proxies: int = 0
    refusals: tuple[str, ...] = ()

    def with_proxy(self, kind: str, proxy: ProxyState) -> "Held":
        """One more proxy for which the policy counts."""
        if TRAVELS_IN[kind] <= proxy.in_step:
            return msgspec.structs.replace(self, proxies=self.proxies + 1)
        reasons = [
            f"{proxy.namespace}/{proxy.pod} refused: {words[:REASON_LENGTH]}"
            for type_name, words in proxy.refused
            if type_name in TRAVELS_IN[kind]
        ]
        return msgspec.structs.replace(self, refusals=(*self.refusals, *reasons)[:REASONS_AT_MOST])


Report = dict[str, Held]
"""By `Kind/namespace/name`."""


def key(ref: ObjectRef) -> str:
    """The name of a policy in reports."""
    return f"{ref.kind}/{ref.namespace}/{ref.name}"


def encoded(report: Report) -> str:
    """The report as other replicas read it; equal reports are equal texts."""
    first = dict(sorted(report.items())[:ENTRIES_AT_MOST])
    return msgspec.json.encode(first).decode()


def decoded(text: str) -> Report:
    """What another replica said; nothing if it cannot be read."""
    try:
        return msgspec.json.decode(text, type=dict[str, Held])
    except msgspec.MsgspecError:
        return {}


def together(ref: ObjectRef, generation: int, reports: Iterable[Report]) -> Held:
    """What all replicas hold of one generation of a policy; what they say of other generations is not counted."""
    said = [found for report in reports if (found := report.get(key(ref))) and found.generation == generation]
    refusals = tuple(reason for found in said for reason in found.refusals)
    return Held(generation, sum(found.proxies for found in said), refusals[:REASONS_AT_MOST])
