"""PeerAuthentications in dry run: what they would change, and whether they could."""

from collections.abc import Iterator
from typing import Final

import msgspec

from mutua.analysis import words
from mutua.analysis.check import Check
from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message, own, subject
from mutua.analysis.projection import SNAPSHOT_INPUTS
from mutua.api import kinds, security
from mutua.api.dry_run import is_dry_run
from mutua.mesh import peer_authentication
from mutua.mesh.proxy_view import MtlsMode
from mutua.mesh.selectors import labels_of

KIND: Final = kinds.PEER_AUTHENTICATION
_STRUCT: Final = security.PeerAuthentication


def dry_runs(inputs: Inputs) -> Iterator[Message]:
    """Each policy in dry run, with the modes that it would change, and the older one that would keep it from it."""
    for item in inputs.subjects(KIND, _STRUCT):
        if not is_dry_run(item.metadata):
            continue
        changes = _changes(inputs, item)
        would = words.joined([f"{words.listed(names)} {mode}" for mode, names in sorted(changes.items())])
        text = "is a dry run: it refuses nobody and changes no mode; enforced, it would "
        text += f"make {would}" if would else "change nothing"
        older = _older(inputs, item)
        if older is not None:
            name = f"{older.metadata.namespace}/{older.metadata.name}"
            text += f", were it not for {name}, which is older and covers the same workloads"
        place = f" -n {item.metadata.namespace}" if item.metadata.namespace != inputs.root_namespace else ""
        hint = f"`mutua plaintext{place}` counts whom it would refuse"
        yield own("MUT0017", subject(KIND, item), text, hint)


def _changes(inputs: Inputs, item: security.PeerAuthentication) -> dict[MtlsMode, list[str]]:
    """The workloads with a sidecar whose mode, on all ports or some, would be another; by that mode."""
    namespace = item.metadata.namespace
    selector = labels_of(item.spec.selector.match_labels) if item.spec.selector else frozenset()
    if namespace == inputs.root_namespace:
        if selector:
            return {}
        namespace = ""
    found: dict[MtlsMode, list[str]] = {}
    for workload in inputs.workloads(namespace, selector):
        policies = inputs.snapshot.inbound(workload.namespace).peer_policies
        if not workload.has_sidecar or policies.rehearsed is None:
            continue
        now = peer_authentication.effective(policies, workload.labels)
        then = peer_authentication.effective(policies.rehearsed, workload.labels)
        ports = {number for number, _ in (*now.ports, *then.ports)}
        modes = {then.default} - {now.default}
        modes |= {then.on_port(port) for port in ports if then.on_port(port) is not now.on_port(port)}
        for mode in modes:
            found.setdefault(mode, []).append(workload.name)
    return found


def _older(inputs: Inputs, item: security.PeerAuthentication) -> security.PeerAuthentication | None:
    """The policy that would make this one be ignored if it were enforced."""
    annotations: dict[str, str] = {}
    enforced = msgspec.structs.replace(item, metadata=msgspec.structs.replace(item.metadata, annotations=annotations))
    others = [other for other in inputs.all(KIND, _STRUCT).values() if other is not item]
    ignored = peer_authentication.ineffective([*others, enforced], inputs.root_namespace)
    return next((entry.older for entry in ignored if entry.policy is enforced), None)


CHECKS: Final = (
    Check(
        "peerauthentication.DryRunAnalyzer",
        "PeerAuthentications in dry run, and what they would change",
        ("MUT0017",),
        SNAPSHOT_INPUTS,
        dry_runs,
        (KIND,),
    ),
)
