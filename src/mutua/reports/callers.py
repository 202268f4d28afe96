"""Who of the pods that are there may call a workload: one line per client identity and port, with who decided it."""

from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload
from mutua.reports.table import render
from mutua.verdict import call
from mutua.verdict.request import HttpRequest

HEADER = ("CLIENT", "SIDECAR", "PORT", "VERDICT", "DECIDED BY", "REASON")


def table(snapshot: MeshSnapshot, server: Workload, now: float) -> str:
    """For every service account with and without sidecar, and each Service port that leads to the server: `GET /`.

    `now` is in seconds since 1970. Header only if no Service leads to the server.
    """
    rows = []
    for client in _clients(snapshot, server):
        for service in sorted(snapshot.services.values(), key=lambda item: (item.namespace, item.name)):
            if service.namespace != server.namespace or not (service.selector and service.selector <= server.labels):
                continue
            for port in service.ports:
                asked = call.Call(
                    client=client, host=service.host, port=port.number, server=server, request=HttpRequest(), now=now
                )
                rows += [_row(client, port.number, outcome) for outcome in call.judge(snapshot, asked)]
    return render(HEADER, rows, padding=3)


def _row(client: Workload, port: int, outcome: call.Outcome) -> tuple[str, ...]:
    decisive = outcome.decisive
    by = decisive.decided_by
    return (
        f"{client.namespace}/{client.service_account}",
        "yes" if client.has_sidecar else "no",
        str(port),
        "allowed" if outcome.allowed else "refused",
        f"{by.namespace}/{by.name}" if by else "-",
        decisive.reason,
    )


def _clients(snapshot: MeshSnapshot, server: Workload) -> list[Workload]:
    """One pod per service account, with and without sidecar; the server itself is no client of its own."""
    found: dict[tuple[str, str, bool], Workload] = {}
    for workload in sorted(snapshot.workloads.values(), key=lambda item: (item.namespace, item.name)):
        if (workload.namespace, workload.name) != (server.namespace, server.name):
            found.setdefault((workload.namespace, workload.service_account, not workload.has_sidecar), workload)
    return [found[key] for key in sorted(found)]
