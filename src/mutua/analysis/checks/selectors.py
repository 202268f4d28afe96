"""Policies whose selector matches nothing."""

from collections.abc import Iterable, Iterator
from typing import Final

from mutua.analysis import words
from mutua.analysis.check import Check
from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message, istio, own, subject
from mutua.analysis.projection import SNAPSHOT_INPUTS
from mutua.api import kinds, networking, security
from mutua.api.kinds import AnyObject, Kind
from mutua.api.meta import LabelSelector
from mutua.mesh import authorization
from mutua.mesh.selectors import labels_of

AUTHORIZATION: Final = kinds.AUTHORIZATION_POLICY


def without_workloads(inputs: Inputs) -> Iterator[Message]:
    """AuthorizationPolicies that no workload follows. In the root namespace they are about the whole mesh."""
    for item in inputs.subjects(AUTHORIZATION, security.AuthorizationPolicy):
        if authorization.has_target(item):
            continue
        wanted = item.spec.selector.match_labels if item.spec.selector else {}
        namespace = "" if item.metadata.namespace == inputs.root_namespace else item.metadata.namespace
        if not namespace and not wanted:
            continue
        if not inputs.workloads(namespace, labels_of(wanted)):
            about, hint = subject(AUTHORIZATION, item), _nearest(inputs, namespace, wanted)
            yield istio("IST0127", about, words.selector(wanted), field="spec.selector", hint=hint)


def selecting_nothing(inputs: Inputs) -> Iterator[Message]:
    """The same for the other kinds that select workloads."""
    for kind, item, selector, field in _selecting(inputs):
        root, namespace = inputs.root_namespace, item.metadata.namespace
        if kind is kinds.PEER_AUTHENTICATION and namespace == root:
            continue  # ignored for another reason, which another check tells
        place = "" if kind is kinds.REQUEST_AUTHENTICATION and namespace == root else namespace
        wanted = selector.match_labels
        if wanted and not inputs.workloads(place, labels_of(wanted)):
            where = f"in namespace {place}" if place else "in the mesh"
            text = f"matches no workload {where}: none has the labels {words.selector(wanted)}"
            yield own("MUT0003", subject(kind, item), text, _nearest(inputs, place, wanted), field=field)


def _selecting(inputs: Inputs) -> Iterable[tuple[Kind, AnyObject, LabelSelector, str]]:
    for peer in inputs.subjects(kinds.PEER_AUTHENTICATION, security.PeerAuthentication):
        if peer.spec.selector:
            yield kinds.PEER_AUTHENTICATION, peer, peer.spec.selector, "spec.selector"
    for request in inputs.subjects(kinds.REQUEST_AUTHENTICATION, security.RequestAuthentication):
        if request.spec.selector:
            yield kinds.REQUEST_AUTHENTICATION, request, request.spec.selector, "spec.selector"
    for rule in inputs.subjects(kinds.DESTINATION_RULE, networking.DestinationRule):
        if rule.spec.workload_selector:
            yield kinds.DESTINATION_RULE, rule, rule.spec.workload_selector, "spec.workloadSelector"


def _nearest(inputs: Inputs, namespace: str, wanted: dict[str, str]) -> str:
    among = {workload.labels for workload in inputs.workloads(namespace)}
    found = words.nearest_selector(labels_of(wanted), among) if wanted else ""
    return f"did you mean {found}?" if found and found != words.selector(wanted) else ""


CHECKS: Final = (
    Check(
        "auth.AuthorizationPoliciesAnalyzer.Workloads",
        "AuthorizationPolicies that match no workload",
        ("IST0127",),
        SNAPSHOT_INPUTS,
        without_workloads,
        (AUTHORIZATION,),
    ),
    Check(
        "selector.WorkloadAnalyzer",
        "PeerAuthentications, RequestAuthentications and DestinationRules that select no workload",
        ("MUT0003",),
        SNAPSHOT_INPUTS,
        selecting_nothing,
        (kinds.PEER_AUTHENTICATION, kinds.REQUEST_AUTHENTICATION, kinds.DESTINATION_RULE),
    ),
)
