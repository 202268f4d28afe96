"""ServiceEntries whose hosts or addresses belong to somebody else."""

from collections.abc import Iterator
from typing import Final

from mutua.analysis import words
from mutua.analysis.check import Check
from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message, Subject, own, subject
from mutua.analysis.projection import SNAPSHOT_INPUTS
from mutua.api import kinds
from mutua.api.service_entry import ServiceEntry
from mutua.mesh import hosts, visibility
from mutua.mesh.endpoints import Reachable
from mutua.mesh.services import Service

KIND: Final = kinds.SERVICE_ENTRY


def owners(inputs: Inputs) -> Iterator[Message]:
    """Hosts and addresses that an entry names and that do not lead to it."""
    directory = inputs.snapshot.parts.outbound.directory
    by_host = inputs.shared("reachable by host", lambda: _by_host(directory.entries))
    domain = inputs.injector.cluster_domain
    for item in inputs.subjects(KIND, ServiceEntry):
        namespace = item.metadata.namespace
        seen_by = visibility.read(item.spec.export_to, namespace, inputs.mesh_config.default_service_export_to)
        for index, host in enumerate(item.spec.hosts):
            here = by_host.get(host, ())
            mine = next((one for one in here if one.is_entry and one.namespace == namespace), None)
            field = f"spec.hosts[{index}]"
            if mine is None:
                service = host.removesuffix(hosts.service_host("", namespace, domain))
                text = f"{host} is the host of Service {namespace}/{service}: the entry does not count for it"
                yield own("MUT0020", subject(KIND, item), text, "choose a host that no Service has", field=field)
                continue
            if seen_by == {namespace}:
                continue  # what a namespace says to its own clients alone takes nothing from anybody
            before = next((one for one in here if one.rank < mine.rank and one.namespace != namespace), None)
            if before is not None and visibility.can_see(before.visible_to, namespace):
                text = (
                    f"{host} is that of {before.kind} {before.namespace}/{before.name}: for clients of other namespaces"
                )
                hint = 'choose another host, or say exportTo: ["."] if it is for this namespace alone'
                related = (Subject(before.kind, before.namespace, before.name),)
                yield own(
                    "MUT0020",
                    subject(KIND, item),
                    f"{text} the entry does not count",
                    hint,
                    field=field,
                    related=related,
                )
        claimed = [address for address in item.spec.addresses if _is_claimed(inputs, address)]
        if claimed and seen_by != {namespace}:
            text = (
                f"Services have {words.listed(claimed)}: connections of other namespaces' clients to them stay theirs"
            )
            yield own("MUT0020", subject(KIND, item), text, "choose addresses that nobody has", field="spec.addresses")


def _by_host(entries: tuple[Reachable, ...]) -> dict[str, list[Service]]:
    found: dict[str, list[Service]] = {}
    for entry in entries:
        found.setdefault(entry.service.host, []).append(entry.service)
    return found


def _is_claimed(inputs: Inputs, address: str) -> bool:
    claimed = inputs.snapshot.parts.outbound.directory.claimed
    try:
        return claimed.meets(address)
    except ValueError:
        return False


CHECKS: Final = (
    Check(
        "serviceentry.OwnerAnalyzer",
        "ServiceEntries for hosts and addresses of somebody else",
        ("MUT0020",),
        SNAPSHOT_INPUTS,
        owners,
        (KIND,),
    ),
)
