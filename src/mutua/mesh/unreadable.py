"""What takes the place of an object that could not be read, where leaving it out would let somebody in."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from mutua.api import kinds, networking, security, service_entry
from mutua.api.findings import Finding, Severity
from mutua.api.kinds import AnyObject, Kind
from mutua.api.meta import LabelSelector, ObjectMeta

_EVERYTHING: Final = (security.Rule(),)
_REFUSING: Final = networking.ClientTlsSettings(networking.ClientTlsSettingsMode.MUTUAL)
"""Without a certificate to show nobody is dialled."""

_INSTEAD: Final = {
    kinds.AUTHORIZATION_POLICY.name: "everything is denied to",
    kinds.PEER_AUTHENTICATION.name: "mutual TLS is demanded of the clients of",
}
_TO_HOSTS: Final = frozenset({kinds.DESTINATION_RULE.name, kinds.SERVICE_ENTRY.name})


def stand_in(
    kind: Kind, metadata: ObjectMeta, value: AnyObject | None, findings: Sequence[Finding], spec: object
) -> tuple[AnyObject | None, tuple[Finding, ...]]:
    """What is enforced for an object that was read as `value` with these findings, and all that is to be said of it.

    A policy's is for the workloads that it could select: those of its selector if that is readable, else all of its
    namespace (of the mesh, in the root namespace). For them an AuthorizationPolicy with mistakes denies everything, and
    a PeerAuthentication demands mutual TLS. Where a DestinationRule's TLS settings or a ServiceEntry are in doubt, its
    hosts (as far as the raw `spec` names them) are dialled by nobody: what was to be encrypted could leave in
    plaintext. Other kinds are as they are.
    """
    mistaken = [finding for finding in findings if finding.is_error and finding.field.partition(".")[0] in ("", "spec")]
    if mistaken and kind.name in _INSTEAD:
        selector = _selector(value, findings)
        whom = (
            "the workloads that it selects" if selector else f"all workloads that namespace {metadata.namespace} rules"
        )
        make = _denying if kind is kinds.AUTHORIZATION_POLICY else _strict
        said = _said(kind, metadata, f"until it is corrected, {_INSTEAD[kind.name]} {whom}")
        return make(metadata, selector), (*findings, said)
    if kind.name not in _TO_HOSTS or not mistaken or (value is not None and not _in_doubt(value, mistaken)):
        return value, tuple(findings)
    instead = _rule(metadata, value, spec) if kind is kinds.DESTINATION_RULE else _entry(metadata, value, spec)
    if instead is None:
        return None, (
            *findings,
            _said(kind, metadata, "it counts for nothing, since its hosts or ports cannot be read"),
        )
    hosts = ", ".join(_hosts(spec))
    return instead, (*findings, _said(kind, metadata, f"until it is corrected, nobody is connected to {hosts}"))


def _said(kind: Kind, metadata: ObjectMeta, consequence: str) -> Finding:
    return Finding(
        kind.name,
        metadata.namespace,
        metadata.name,
        "spec",
        f"cannot be read as a whole: {consequence}",
        Severity.ERROR,
        "correct what is named in the other messages, or delete it",
    )


def _in_doubt(value: AnyObject, mistaken: Iterable[Finding]) -> bool:
    """Whether what could be read may lack what decides on encryption. An unknown field elsewhere does no harm."""
    if not isinstance(value, networking.DestinationRule):
        return True
    return any("tls" in finding.field.split(".") for finding in mistaken)


def _rule(metadata: ObjectMeta, value: AnyObject | None, spec: object) -> AnyObject | None:
    for host in _hosts(spec):
        policy = networking.TrafficPolicy(tls=_REFUSING)
        known = value.spec if isinstance(value, networking.DestinationRule) else networking.DestinationRuleSpec(host)
        refusing = networking.DestinationRuleSpec(
            host, policy, export_to=known.export_to, workload_selector=known.workload_selector
        )
        return networking.DestinationRule(metadata=metadata, spec=refusing)
    return None


def _entry(metadata: ObjectMeta, value: AnyObject | None, spec: object) -> AnyObject | None:
    """The hosts without anything behind them."""
    known = value.spec if isinstance(value, service_entry.ServiceEntry) else None
    hosts, ports = _hosts(spec), known.ports if known else tuple(_ports(spec))
    if not hosts or not ports:
        return None
    addresses = known.addresses if known else tuple(_texts(spec, "addresses"))
    refusing = service_entry.ServiceEntrySpec(
        hosts, addresses, ports, resolution=service_entry.Resolution.STATIC, export_to=known.export_to if known else ()
    )
    return service_entry.ServiceEntry(metadata=metadata, spec=refusing)


def _hosts(spec: object) -> tuple[str, ...]:
    host = spec.get("host") if isinstance(spec, dict) else None
    return (host,) if isinstance(host, str) and host else tuple(_texts(spec, "hosts"))


def _texts(spec: object, field: str) -> Iterator[str]:
    found = spec.get(field) if isinstance(spec, dict) else None
    for item in found if isinstance(found, list) else ():
        if isinstance(item, str) and item:
            yield item


def _ports(spec: object) -> Iterator[service_entry.ServiceEntryPort]:
    found = spec.get("ports") if isinstance(spec, dict) else None
    for item in found if isinstance(found, list) else ():
        with suppress(msgspec.ValidationError):
            yield msgspec.convert(item, service_entry.ServiceEntryPort)


def _denying(metadata: ObjectMeta, selector: LabelSelector | None) -> AnyObject:
    spec = security.AuthorizationPolicySpec(selector=selector, action=security.Action.DENY, rules=_EVERYTHING)
    return security.AuthorizationPolicy(metadata=metadata, spec=spec)


def _strict(metadata: ObjectMeta, selector: LabelSelector | None) -> AnyObject:
    # Of several at one level the oldest counts; this one has to.
    eldest = msgspec.structs.replace(metadata, creation_timestamp="")
    mtls = security.MutualTls(security.MutualTlsMode.STRICT)
    spec = security.PeerAuthenticationSpec(selector=selector, mtls=mtls)
    return security.PeerAuthentication(metadata=eldest, spec=spec)


def _selector(value: AnyObject | None, findings: Sequence[Finding]) -> LabelSelector | None:
    """The selector, if it is surely what the author meant."""
    if isinstance(value, security.AuthorizationPolicy):
        if value.spec.target_ref or value.spec.target_refs:
            return None
    elif not isinstance(value, security.PeerAuthentication):
        return None
    in_doubt = any(finding.field.startswith("spec.selector") for finding in findings)
    return None if in_doubt else value.spec.selector
