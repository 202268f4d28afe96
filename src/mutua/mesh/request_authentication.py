"""Which end-user tokens a workload accepts. Source: Istio RequestAuthentication."""

from collections.abc import Iterable
from typing import Final

from mutua.api.meta import age_order
from mutua.api.security import JwtRule, RequestAuthentication
from mutua.mesh.proxy_view import Frozen, ObjectRef
from mutua.mesh.selectors import NO_LABELS, Labels, labels_of

KIND: Final = "RequestAuthentication"


class TokenRule(Frozen, frozen=True):
    """Which tokens of one issuer are accepted, and which of their claims are lists separated by spaces."""

    source: ObjectRef
    issuer: str  # "": any
    audiences: tuple[str, ...] = ()  # (): any
    space_delimited_claims: tuple[str, ...] = ()


def applying(
    objects: Iterable[RequestAuthentication], root_namespace: str, namespace: str, labels: Labels
) -> tuple[TokenRule, ...]:
    """The rules of all objects that select a workload, of its namespace and of the root namespace, oldest first.

    All of them hold together: each adds the tokens of its issuers. Those attached to gateways or Services are not for
    sidecars.
    """
    return tuple(
        _rule(item, rule)
        for item in sorted(objects, key=lambda item: age_order(item.metadata))
        if item.metadata.namespace in (root_namespace, namespace) and _selects(item, labels)
        for rule in item.spec.jwt_rules
    )


def _selects(item: RequestAuthentication, labels: Labels) -> bool:
    spec = item.spec
    wanted = labels_of(spec.selector.match_labels) if spec.selector else NO_LABELS
    return not spec.target_ref and not spec.target_refs and wanted <= labels


def _rule(item: RequestAuthentication, rule: JwtRule) -> TokenRule:
    source = ObjectRef(KIND, item.metadata.namespace, item.metadata.name)
    return TokenRule(source, rule.issuer, rule.audiences, rule.space_delimited_claims)
