"""Kinds of the group apps: what makes pods, with only the fields that the analysis reads."""

import msgspec

from mutua.api.core import PodSpec
from mutua.api.meta import KubernetesObject, Lenient, ObjectMeta


class PodTemplate(Lenient, frozen=True):
    """What each pod will be; only labels and annotations of `metadata` count."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()


class WorkloadSelector(Lenient, frozen=True):
    """Which pods belong to the object; expressions are not read, since the template's labels always fit."""

    match_labels: dict[str, str] = msgspec.field(default_factory=dict)


class WorkloadSpec(Lenient, frozen=True):
    """Pods after one template."""

    replicas: int | None = None
    selector: WorkloadSelector = WorkloadSelector()
    template: PodTemplate = PodTemplate()


class Deployment(KubernetesObject, frozen=True):
    """apps/v1 Deployment."""

    spec: WorkloadSpec = WorkloadSpec()


class StatefulSet(KubernetesObject, frozen=True):
    """apps/v1 StatefulSet."""

    spec: WorkloadSpec = WorkloadSpec()


class DaemonSet(KubernetesObject, frozen=True):
    """apps/v1 DaemonSet."""

    spec: WorkloadSpec = WorkloadSpec()
