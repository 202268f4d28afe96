"""Workloads outside of pods: what WorkloadEntries, and the endpoints of ServiceEntries, are to the mesh."""

from collections.abc import Mapping

from mutua.api.service_entry import WorkloadEntry, WorkloadEntrySpec
from mutua.mesh.proxy_view import Frozen
from mutua.mesh.selectors import labels_of
from mutua.mesh.workloads import TLS_MODE_LABEL, Workload

_UNIX = "unix://"


class Machine(Frozen, frozen=True):
    """One workload that is no pod. Its address may be a name; without one, or with a socket's path, it has none."""

    workload: Workload
    ports: tuple[tuple[str, int], ...]  # name of a Service's port, to its own number
    weight: int

    def port(self, name: str, target: int | str, number: int) -> int | None:
        """Its own port for a Service's port of that name, targetPort and number; None if it names none."""
        named = dict(self.ports)
        found = named.get(name) or (named.get(target) if isinstance(target, str) else target)
        return found or (None if isinstance(target, str) else number)


def from_entry(entry: WorkloadEntry) -> Machine:
    """The workload of a WorkloadEntry. Labels of its metadata count as those of its spec, and win."""
    metadata = entry.metadata
    return from_spec(entry.spec, metadata.namespace, metadata.name, metadata.labels)


def from_spec(
    spec: WorkloadEntrySpec, namespace: str, name: str = "", labels: Mapping[str, str] | None = None
) -> Machine:
    """The workload that a spec describes, in its object's namespace.

    It takes mutual TLS if its label says so, or, without the label, if it has a service account. Source: Istio.
    """
    merged = {**spec.labels, **(labels or {})}
    mode = merged.get(TLS_MODE_LABEL)
    address = "" if spec.address.startswith(_UNIX) else spec.address
    workload = Workload(
        namespace=namespace,
        name=name,
        labels=labels_of(merged),
        service_account=spec.service_account,
        addresses=(address,) if address else (),
        has_sidecar=mode == "istio" if mode is not None else bool(spec.service_account),
        ready=True,
        named_ports=(),
        is_pod=False,
    )
    return Machine(workload, tuple(sorted(spec.ports.items())), spec.weight or 1)
