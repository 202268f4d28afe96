"""Who was refused since a migration began, from counters that begin anew with each control plane."""

from collections.abc import Callable, Iterable, Mapping

from mutua.migration.machine import Refusal
from mutua.reports.proxy_status import PlaintextSeen

Counted = tuple[str, PlaintextSeen]
"""(control plane that counted, what it counted)"""


def key(counted: Counted) -> str:
    """Names a counter."""
    replica, seen = counted
    return f"{replica} {seen.client} {seen.server} {seen.port}"


def baseline(counted: Iterable[Counted], namespace: str) -> tuple[tuple[str, int], ...]:
    """The refusals of servers in a namespace so far, by counter."""
    return tuple(sorted((key(item), item[1].connections) for item in _refused(counted, namespace)))


def refusals(
    counted: Iterable[Counted],
    namespace: str,
    before: Mapping[str, int],
    workload_of: Callable[[str], str],
) -> tuple[Refusal, ...]:
    """The refusals that are new since the baseline. `workload_of` gives a pod's workload by the pod's name."""
    found = []
    for item in _refused(counted, namespace):
        seen, known = item[1], before.get(key(item), 0)
        # A counter that is lower than it was belongs to a control plane that began anew: all of it is news.
        new = seen.connections - known if seen.connections >= known else seen.connections
        if new > 0:
            pod = seen.server.partition("/")[2]
            when = seen.last_seen if known and seen.connections >= known else seen.first_seen
            found.append(Refusal(workload_of(pod), seen.client, seen.server, seen.port, new, seen.reason, when))
    return tuple(found)


def _refused(counted: Iterable[Counted], namespace: str) -> Iterable[Counted]:
    return (item for item in counted if item[1].refused and item[1].server.partition("/")[0] == namespace)
