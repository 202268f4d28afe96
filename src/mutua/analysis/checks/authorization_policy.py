"""AuthorizationPolicies that name nobody, ask what cannot be known, or deny and allow more than was meant."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from mutua.analysis import words
from mutua.analysis.check import Check
from mutua.analysis.checks.authorization_facts import (
    IDENTITY_CONDITIONS,
    Identities,
    http_fields,
    identities_of,
    matches_somebody,
    means_namespace,
)
from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message, Subject, istio, own, subject
from mutua.analysis.projection import SNAPSHOT_INPUTS
from mutua.api import core, kinds, security
from mutua.api.findings import Severity
from mutua.api.security import Action, AuthorizationPolicy, Rule
from mutua.mesh import authorization
from mutua.mesh.proxy_view import MtlsMode, Protocol
from mutua.mesh.selectors import NO_LABELS, labels_of
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload

KIND: Final = kinds.AUTHORIZATION_POLICY


def namespaces(inputs: Inputs) -> Iterator[Message]:
    """Namespaces in `from` that do not exist; a pattern must match at least one."""
    known = {name for _, name in inputs.all(kinds.NAMESPACE, core.Namespace)}
    for item in inputs.subjects(KIND, AuthorizationPolicy):
        for field, source in _sources(item):
            for names, values in (("namespaces", source.namespaces), ("notNamespaces", source.not_namespaces)):
                for value in values:
                    if not any(means_namespace(value, name) for name in known):
                        near = words.nearest(value.strip("*"), known)
                        hint = f"did you mean {near}?" if near else ""
                        about = subject(KIND, item)
                        yield istio("IST0101", about, "namespace", value, field=f"{field}.{names}", hint=hint)


def identities(inputs: Inputs) -> Iterator[Message]:
    """Principals and service accounts that are those of no pod, with the nearest that are."""
    known = _identities(inputs)
    for item in inputs.subjects(KIND, AuthorizationPolicy):
        about = subject(KIND, item)
        for field, source in _sources(item):
            for value in source.principals:
                if known.may_judge(value, inputs.is_complete) and not known.has(value):
                    yield _nobody(about, f"{field}.principals", value, value, known.nearest(value), known)
            for value in source.service_accounts:
                full = value if "/" in value else f"{item.metadata.namespace}/{value}"
                if known.may_judge_account(full, inputs.is_complete) and full not in known.accounts:
                    near = known.nearest_account(full)
                    yield _nobody(about, f"{field}.serviceAccounts", value, full, near, known)


def _identities(inputs: Inputs) -> Identities:
    existing = inputs.all(kinds.SERVICE_ACCOUNT, core.ServiceAccount)
    return inputs.shared("identities", lambda: identities_of(inputs.snapshot, existing))


def _nobody(about: Subject, field: str, value: str, full: str, near: str, known: Identities) -> Message:
    bare = known.without_sidecar(full)
    if known.is_idle(full):
        text = f"no pod runs as {value} now, though the service account exists"
        return own("MUT0006", about, text, field=field, severity=Severity.INFO)
    if bare:
        text = f"no pod proves to be {value}: {words.listed(bare)} runs as it, and has no sidecar"
        return own("MUT0006", about, text, "inject a sidecar, and restart the pod", field=field)
    return own("MUT0006", about, f"no pod runs as {value}", f"did you mean {near}?" if near else "", field=field)


def identity_on_plaintext(inputs: Inputs) -> Iterator[Message]:
    """Rules about who the client is, on ports where a client need not prove it."""
    snapshot = inputs.snapshot
    for item in inputs.subjects(KIND, AuthorizationPolicy):
        asked, denied = _identity_fields(item)
        if not asked and not denied:
            continue
        open_ports = sorted(
            {
                f"{workload.name} port {port}" if port else workload.name
                for workload in _selected(inputs, item)
                for port in _plaintext_ports(snapshot, workload)
            }
        )
        if not open_ports:
            continue
        lets_through = asked if item.spec.action is Action.DENY else denied
        fields = words.joined(sorted(asked | denied))
        where = words.listed(open_ports, 3)
        fate = (
            "so clients without a certificate get through"
            if lets_through
            else "so clients without a certificate never match"
        )
        yield own(
            "MUT0007",
            subject(KIND, item),
            f"{fields} cannot be known of plaintext, which {where} takes, {fate}",
            "a PeerAuthentication with mode STRICT makes every client prove who it is",
            severity=Severity.WARNING if lets_through else Severity.INFO,
        )


def _plaintext_ports(snapshot: MeshSnapshot, workload: Workload) -> Iterator[int]:
    """Ports that take plaintext; 0 where no Service names any and the workload as a whole does."""
    inbound = snapshot.inbound(workload.namespace).view(workload)
    yield from (port.number for port in inbound.ports if port.mode is not MtlsMode.STRICT)
    if not inbound.ports and inbound.default_mode is not MtlsMode.STRICT:
        yield 0


def _identity_fields(item: AuthorizationPolicy) -> tuple[set[str], set[str]]:
    """Fields that ask who the client is: those that it must match, and those that it must not."""
    asked: set[str] = set()
    denied: set[str] = set()
    for _, source in _sources(item):
        for name in ("principals", "namespaces", "service_accounts", "trust_domains"):
            if getattr(source, name):
                asked.add(_written(name))
            if getattr(source, f"not_{name}"):
                denied.add(_written(f"not_{name}"))
    for rule in item.spec.rules:
        for condition in rule.when or ():
            if condition.key in IDENTITY_CONDITIONS:
                asked.update({condition.key} if condition.values else ())
                denied.update({condition.key} if condition.not_values else ())
    return asked, denied


def _written(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def http_on_tcp(inputs: Inputs) -> Iterator[Message]:
    """Rules about requests, on ports where only bytes are seen."""
    snapshot = inputs.snapshot
    for item in inputs.subjects(KIND, AuthorizationPolicy):
        asking = {index: fields for index, rule in enumerate(item.spec.rules) if (fields := http_fields(rule))}
        if not asking:
            continue
        ports = {
            (workload.name, port.number)
            for workload in _selected(inputs, item)
            for port in snapshot.inbound(workload.namespace).view(workload).ports
            if port.protocol in (Protocol.TCP, Protocol.TLS)
        }
        for index, fields in asking.items():
            met = sorted((name, port) for name, port in ports if _meets(item.spec.rules[index], port))
            if met:
                where = words.listed([f"port {port} of {name}" for name, port in met], 3)
                is_are = "is" if len(met) == 1 else "are"
                outcome = (
                    "the rule never matches there, and allows nothing"
                    if item.spec.action is Action.ALLOW
                    else "these fields are left out there, so the rule matches more: everything that the rest allows"
                )
                text = f"{where} {is_are} read as TCP, where {words.joined(sorted(fields))} cannot be seen: {outcome}"
                hint = "name the port http-... if it speaks HTTP, or limit the rule to HTTP ports with `ports`"
                yield own("MUT0008", subject(KIND, item), text, hint, field=f"spec.rules[{index}]")


def _meets(rule: Rule, port: int) -> bool:
    """Whether the rule is about the port at all."""
    operations = [entry.operation or security.Operation() for entry in rule.to or ()]
    return not operations or any(
        (not operation.ports or str(port) in operation.ports) and str(port) not in operation.not_ports
        for operation in operations
    )


def denies_everything(inputs: Inputs) -> Iterator[Message]:
    """ALLOW policies that match nothing that could come."""
    snapshot = inputs.snapshot
    known = _identities(inputs)
    for item in inputs.subjects(KIND, AuthorizationPolicy):
        if item.spec.action is not Action.ALLOW or authorization.has_target(item):
            continue
        about = subject(KIND, item)
        selected = _selected(inputs, item)
        if not item.spec.rules:
            if item.spec.selector and selected:
                text = f"allows nothing, since it has no rules: {words.listed(one.name for one in selected)} denies all"
                hint = "add rules; or to deny on purpose, use action DENY with the rule {}"
                yield own("MUT0009", about, text, hint, field="spec.rules", severity=Severity.INFO)
            continue
        if not selected:
            continue
        reasons = [_impossible(rule, item, selected, snapshot, known, inputs.is_complete) for rule in item.spec.rules]
        if all(reasons):
            text = f"allows nothing, so every request is denied: {reasons[0]}"
            yield own("MUT0009", about, text, field="spec.rules")


def _impossible(
    rule: Rule,
    item: AuthorizationPolicy,
    selected: Iterable[Workload],
    snapshot: MeshSnapshot,
    known: Identities,
    is_complete: bool,
) -> str:
    """Why no request can match the rule; "" if one may."""
    asked = {port for entry in rule.to or () for port in (entry.operation.ports if entry.operation else ("",))}
    ports = {
        port.number: port for workload in selected for port in snapshot.inbound(workload.namespace).view(workload).ports
    }
    if asked and "" not in asked and ports and not any(str(number) in asked for number in ports):
        meant = words.joined([str(number) for number in sorted(ports)])
        return f"ports {words.joined(sorted(asked))} are none of the workload's, which listens on {meant}"
    sources = [entry.source or security.Source() for entry in rule.from_ or ()]
    if sources and not any(matches_somebody(one, item.metadata.namespace, known, is_complete) for one in sources):
        return "no pod has one of the identities that the rules name"
    return ""


def list_items(inputs: Inputs) -> Iterator[Message]:
    """A rule of only `from`, then one of only `to` or `when`: alternatives, where most often both are meant."""
    for item in inputs.subjects(KIND, AuthorizationPolicy):
        rules = item.spec.rules
        for index, (first, second) in enumerate(itertools.pairwise(rules)):
            only_from = bool(first.from_) and first.to is None and first.when is None
            without_from = second.from_ is None and bool(second.to or second.when)
            if only_from and without_from:
                rest = "to" if second.to else "when"
                done = {Action.ALLOW: "allowed", Action.DENY: "denied"}.get(item.spec.action, "matched")
                each = f"a request is {done} if one of them matches, not only if both do"
                text = f"rules[{index}] has only `from` and rules[{index + 1}] only `{rest}`: {each}"
                hint = f"if both must match, write `{rest}` into the same list item, without a dash"
                yield own("MUT0010", subject(KIND, item), text, hint, field=f"spec.rules[{index + 1}]")


def _sources(item: AuthorizationPolicy) -> Iterator[tuple[str, security.Source]]:
    """Every source with the path of its field."""
    for index, rule in enumerate(item.spec.rules):
        for number, entry in enumerate(rule.from_ or ()):
            if entry.source is not None:
                yield f"spec.rules[{index}].from[{number}].source", entry.source


def _selected(inputs: Inputs, item: AuthorizationPolicy) -> list[Workload]:
    """The workloads with a sidecar that follow the policy; one of each set of labels."""
    if authorization.has_target(item):
        return []
    namespace = "" if item.metadata.namespace == inputs.root_namespace else item.metadata.namespace
    wanted = labels_of(item.spec.selector.match_labels) if item.spec.selector else NO_LABELS
    found = inputs.workloads(namespace, wanted)
    return list({(one.namespace, one.labels): one for one in found if one.has_sidecar}.values())


CHECKS: Final = (
    Check(
        "auth.AuthorizationPoliciesAnalyzer.Namespaces",
        "Namespaces in AuthorizationPolicies that do not exist",
        ("IST0101",),
        (KIND, kinds.NAMESPACE),
        namespaces,
        (KIND,),
    ),
    Check(
        "auth.IdentityAnalyzer",
        "Principals and service accounts in AuthorizationPolicies that no pod has",
        ("MUT0006",),
        (*SNAPSHOT_INPUTS, kinds.SERVICE_ACCOUNT),
        identities,
        (KIND,),
    ),
    Check(
        "auth.PlaintextAnalyzer",
        "AuthorizationPolicies that ask for identities on ports that take plaintext",
        ("MUT0007",),
        SNAPSHOT_INPUTS,
        identity_on_plaintext,
        (KIND,),
    ),
    Check(
        "auth.TcpAnalyzer",
        "AuthorizationPolicies that ask about HTTP on TCP ports",
        ("MUT0008",),
        SNAPSHOT_INPUTS,
        http_on_tcp,
        (KIND,),
    ),
    Check(
        "auth.DenyAllAnalyzer",
        "ALLOW policies that deny everything",
        ("MUT0009",),
        (*SNAPSHOT_INPUTS, kinds.SERVICE_ACCOUNT),
        denies_everything,
        (KIND,),
    ),
    Check(
        "auth.ListItemAnalyzer",
        "Rules of AuthorizationPolicies that were probably meant as one",
        ("MUT0010",),
        (KIND,),
        list_items,
        (KIND,),
    ),
)
