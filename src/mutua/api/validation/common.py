"""Rules that several kinds share: selectors, targets, durations, ports, addresses."""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final

from mutua.api.booleans import FALSE, TRUE
from mutua.api.dry_run import ANNOTATION
from mutua.api.findings import Violation, error, warning
from mutua.api.meta import LabelSelector, ObjectMeta, TargetReference, duration_seconds

_TARGETS: Final = frozenset(
    {
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
        ("", "Service"),
        ("core", "Service"),
        ("networking.istio.io", "ServiceEntry"),
    }
)
_MILLISECOND: Final = 0.001


def selector(value: LabelSelector | None, field: str = "spec.selector") -> Iterator[Violation]:
    """Labels are compared as they are: no wildcards, no empty keys. An empty selector is probably a mistake."""
    if value is None:
        return
    if not value.match_labels:
        yield warning(field, "workload selector specified without labels; it selects every workload")
    for key, label in value.match_labels.items():
        pair = f'"{key}={label}"'
        if not key:
            yield error(f"{field}.matchLabels", f"empty key is not supported in selector: {pair}")
        if "*" in key or "*" in label:
            yield error(f"{field}.matchLabels", f"wildcard is not supported in selector: {pair}")


def dry_run(metadata: ObjectMeta) -> Iterator[Violation]:
    """The annotation is a boolean: what is meant as a rehearsal must not be enforced by a slip of the pen."""
    value = metadata.annotations.get(ANNOTATION)
    if value is not None and value not in TRUE | FALSE:
        field = f"metadata.annotations[{ANNOTATION}]"
        yield error(field, f"has annotation {ANNOTATION} with invalid value ({value})", "write true or false")


def targets(
    chosen: LabelSelector | None, one: TargetReference | None, several: tuple[TargetReference, ...]
) -> Iterator[Violation]:
    """At most one way to choose workloads, and targets that exist as kinds, in the object's own namespace."""
    if sum((chosen is not None, one is not None, bool(several))) > 1:
        yield error("spec", "only one of targetRefs or workloadSelector can be set")
    references = [("spec.targetRef", one)] if one is not None else []
    references += [(f"spec.targetRefs[{index}]", reference) for index, reference in enumerate(several)]
    for field, reference in references:
        if not reference.name:
            yield error(f"{field}.name", "targetRef name must be set")
        if reference.namespace:
            message = "targetRef namespace must not be set; cross namespace referencing is not supported"
            yield error(f"{field}.namespace", message)
        if (reference.group, reference.kind) not in _TARGETS:
            allowed = ", ".join(f"{group or 'core'}/{kind}" for group, kind in sorted(_TARGETS) if group != "core")
            given = f"{reference.group}/{reference.kind}"
            yield error(field, f"targetRef must be to one of {allowed}, and is to {given}")


def duration(value: str | None, field: str, *, precise: bool = True) -> Iterator[Violation]:
    """At least a millisecond, and (if `precise`) whole milliseconds, which is what Envoy counts in."""
    if value is None:
        return
    seconds = duration_seconds(value)
    if seconds < _MILLISECOND:
        yield error(field, "duration must be greater than 1ms")
    elif precise and abs(seconds * 1000 - round(seconds * 1000)) > 1e-9:
        yield error(field, "only durations to ms precision are supported")


def address_block(value: str, field: str) -> Iterator[Violation]:
    """An IP address or a CIDR block; bits behind the prefix are ignored."""
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        yield error(field, f"bad IP address ({value})", "write an address as 10.0.0.1 or a block as 10.0.0.0/8")


def port(value: str, field: str) -> Iterator[Violation]:
    """A port number as text, from 1 to 65535."""
    if not (value.isascii() and value.isdecimal() and 1 <= int(value) <= 65535):
        yield error(field, f"bad port ({value})", "a port is a number from 1 to 65535")


def is_address(value: str) -> bool:
    """Whether the text is an IP address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def export_to(words: Iterable[str]) -> Iterator[Violation]:
    """`spec.exportTo`: namespaces, `.` or `*`, each once."""
    given = list(words)
    for index, word in enumerate(given):
        field = f"spec.exportTo[{index}]"
        if word == "~" or not word:
            yield error(field, f"exportTo {word!r} is not allowed here: write '.', '*' or a namespace")
        elif given.index(word) != index:
            yield error(field, f"duplicate entries in exportTo: {word}")
    if "*" in given and len(given) > 1:
        yield warning("spec.exportTo", "'*' makes the other entries meaningless: everybody can see it")
