"""The facts about one policy, from all that is known."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mutua.analysis.inputs import SYSTEM_NAMESPACES
from mutua.analysis.message import Message, Subject
from mutua.api import kinds
from mutua.api.dry_run import is_dry_run
from mutua.api.networking import DestinationRule
from mutua.api.security import RequestAuthentication
from mutua.mesh import request_authentication
from mutua.mesh.proxy_view import ObjectRef
from mutua.mesh.snapshot import MeshSnapshot
from mutua.reports.policy_status import effect, held
from mutua.reports.policy_status.conditions import Facts
from mutua.reports.policy_status.effect import Decided, Effect
from mutua.reports.policy_status.held import Report


class Known(NamedTuple):
    """What follows from one snapshot, and need not be worked out again before there is another."""

    snapshot: MeshSnapshot
    decided: Mapping[tuple[str, str], Decided]  # by namespace and name of the pod
    messages: Mapping[Subject, tuple[Message, ...]] | None = None


def facts(
    ref: ObjectRef,
    known: Known,
    effects: Mapping[ObjectRef, Effect],
    reports: Iterable[Report],
    bare: tuple[str, ...],
    key_problems: Mapping[str, str],
) -> Facts | None:
    """All that is known of one policy; None if it is not among the objects."""
    kind = kinds.by_name(ref.kind)
    item = known.snapshot.objects.get(kind, ref.namespace, ref.name) if kind else None
    if item is None:
        return None
    found = effects.get(ref) or Effect()
    instead = None
    if isinstance(item, DestinationRule) and not found.pods:
        instead = effect.rule_in_its_place(known.snapshot, item)
    return Facts(
        ref=ref,
        generation=item.metadata.generation,
        effect=found,
        held=held.together(ref, item.metadata.generation, reports),
        messages=(known.messages or {}).get(Subject(ref.kind, ref.namespace, ref.name), ()),
        dry_run=not isinstance(item, DestinationRule) and is_dry_run(item.metadata),
        instead=instead if instead != ref else None,
        bare=bare if kind is kinds.PEER_AUTHENTICATION and found.strict_pods else None,
        keys=_keys(item, known.snapshot, key_problems) if isinstance(item, RequestAuthentication) else None,
    )


def _keys(
    item: RequestAuthentication, snapshot: MeshSnapshot, key_problems: Mapping[str, str]
) -> tuple[str, ...] | None:
    """What is wrong with keys that must be fetched; None if there are none."""
    fetched = request_authentication.issuers_to_fetch(item)
    there = dict(snapshot.settings.key_sets)
    missing = [(issuer, location) for issuer, location in fetched if location not in there]
    problems = tuple(
        f"tokens of {issuer} are refused, since its keys are missing: {key_problems.get(location, 'not fetched yet')}"
        for issuer, location in missing
    )
    return problems if fetched else None


def without_sidecar(snapshot: MeshSnapshot, control_plane_namespace: str) -> Iterator[str]:
    """The pods that could be clients and have no certificate; those of the cluster itself and of the mesh are none."""
    outside = SYSTEM_NAMESPACES | {control_plane_namespace}
    for workload in snapshot.workloads.values():
        if not workload.has_sidecar and workload.namespace not in outside:
            yield f"{workload.namespace}/{workload.name}"
