"""The workloads of a namespace: pods that are replicas of each other, and the labels by which a policy selects them."""

from collections.abc import Iterable
from typing import Final

from mutua.mesh.proxy_view import Frozen
from mutua.mesh.selectors import Labels
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload

_OF_ONE_POD: Final = frozenset(
    {
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-completion-index",
        "batch.kubernetes.io/job-name",
        "controller-revision-hash",
        "controller-uid",
        "job-name",
        "pod-template-generation",
        "pod-template-hash",
        "security.istio.io/tlsMode",
        "service.istio.io/canonical-name",
        "service.istio.io/canonical-revision",
        "statefulset.kubernetes.io/pod-name",
    }
)
"""Labels that controllers and the injector add: another replica, or the next version, has others."""


class Group(Frozen, frozen=True):
    """Pods with a sidecar that one selector means. Without labels of their own (`selector` empty) none can."""

    name: str  # of the Deployment or what else made them; unique in the namespace
    selector: Labels
    pods: tuple[str, ...]  # names, sorted


def of_namespace(snapshot: MeshSnapshot, namespace: str) -> tuple[Group, ...]:
    """The workloads of a namespace by name. Where one's selector means another's pods too, they are one."""
    found: dict[Labels, list[Workload]] = {}
    for workload in snapshot.workloads.values():
        if workload.namespace == namespace and workload.has_sidecar:
            found.setdefault(lasting(workload.labels), []).append(workload)
    selectors = [labels for labels in found if not any(other < labels for other in found if other)]
    groups: list[Group] = []
    for selector in sorted(selectors, key=sorted):
        members = [
            item for labels, items in found.items() if selector <= labels and (selector or not labels) for item in items
        ]
        names = sorted(item.name for item in members)
        first = min((item for item in found[selector]), key=lambda item: item.name)
        name = first.owner or first.name
        groups.append(Group(_unique(name, groups), selector, tuple(names)))
    return tuple(sorted(groups, key=lambda group: group.name))


def lasting(labels: Labels) -> Labels:
    """The labels that all replicas have, in every version."""
    return frozenset((key, value) for key, value in labels if key not in _OF_ONE_POD)


def group_of(groups: Iterable[Group], labels: Labels) -> Group | None:
    """The workload that a pod with these labels belongs to."""
    return next((group for group in groups if group.selector and group.selector <= labels), None)


def _unique(name: str, groups: Iterable[Group]) -> str:
    taken = {group.name for group in groups}
    number, candidate = 2, name
    while candidate in taken:
        number, candidate = number + 1, f"{name}-{number}"
    return candidate
