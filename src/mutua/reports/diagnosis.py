"""The walk from a symptom to its cause: each question in the order in which a person would ask it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

from mutua.reports import diagnosis_fixes as fixes
from mutua.reports.diagnosis_facts import Diagnosis, Evidence, Fix, Listening, Look, Side
from mutua.verdict.call import Step, Taken
from mutua.verdict.connection import Protection

CLOCK_TOLERANCE = timedelta(minutes=1)
"""Certificates are valid from two minutes before they are made, so less than that hurts nobody."""


class Cause(NamedTuple):
    """What is wrong: a stable name, a sentence, and the cure."""

    name: str
    sentence: str
    fix: Fix = Fix()


_Answer = tuple[Look, Cause | None]

CAUSES = {
    "pod-not-running": "the pod does not run",
    "no-endpoints": "nothing is behind the Service and port",
    "sidecar-missing": "the pod should have a sidecar and has none",
    "proxy-not-ready": "the sidecar has not been configured",
    "no-certificate": "the sidecar has no certificate (Secret is not supplied by SDS)",
    "not-connected": "the sidecar has lost the control plane",
    "configuration-refused": "Envoy refused what it was sent",
    "certificate-expired": "the certificate has ended",
    "clock-skew": "a clock is wrong, so that certificates seem to have ended or not to have begun",
    "wrong-identity": "the certificate names another workload",
    "roots-differ": "the two sides trust different roots (CERTIFICATE_VERIFY_FAILED)",
    "plaintext-to-strict": "plaintext meets STRICT (connection reset, filter_chain_not_found)",
    "destination-rule-disables-mtls": "a DestinationRule makes the client speak plaintext to STRICT",
    "mtls-to-plaintext": "mutual TLS meets a server that takes none (WRONG_VERSION_NUMBER)",
    "client-cannot-dial": "the client's settings keep it from dialling",
    "server-not-believed": "the server's identity is not one that the client expects",
    "authorization-denied": "a policy refuses (RBAC: access denied)",
    "application-not-listening": "no application waits on the port (upstream connect error)",
    "application-on-loopback": "the application waits on 127.0.0.1 only",
}
"""Every cause that can be named."""


def diagnose(evidence: Evidence) -> Diagnosis:
    """The walk until the first cause; looks after it are not taken. Nothing found is said as such."""
    looks: list[Look] = []
    for look, cause in _walk(evidence):
        looks.append(look)
        if cause is not None:
            return Diagnosis(tuple(looks), cause.name, cause.sentence, cause.fix)
    what = f"{evidence.client} to {evidence.target}" if evidence.target else str(evidence.client)
    return Diagnosis(tuple(looks), "", f"Nothing is wrong with {what} as far as can be seen from here.")


def _walk(evidence: Evidence) -> Iterator[_Answer]:
    alone = not evidence.target
    yield from _pod(evidence, evidence.client, needs_sidecar=alone)
    if alone:
        if evidence.server_port:
            yield _application(evidence, evidence.client)
        return
    yield _behind(evidence)
    if evidence.server is not None:
        yield from _pod(evidence, evidence.server, needs_sidecar=False)
        yield from _trust(evidence.client, evidence.server)
    if evidence.outcome is not None:
        for taken in evidence.outcome.steps:
            yield _policy(evidence, taken)
    if evidence.server is not None:
        yield _application(evidence, evidence.server)


def _pod(evidence: Evidence, side: Side, *, needs_sidecar: bool) -> Iterator[_Answer]:
    question = f"Does {side} run?"
    if side.phase != "Running":
        why = "; ".join(side.waiting) or f"its phase is {side.phase}"
        cause = Cause("pod-not-running", f"{side} does not run: {why}.", fixes.describe(side))
        yield Look(question, False, why), cause
    else:
        yield Look(question, True, "Running"), None
    question = f"Has {side} a sidecar?"
    if not side.has_sidecar:
        missing = needs_sidecar or side.would_be_injected
        look = Look(question, False if missing else None, side.injection)
        cause = Cause("sidecar-missing", f"{side} has no sidecar: {side.injection}.", fixes.inject(side))
        yield look, cause if missing else None
        return
    yield Look(question, True, side.injection or "istio-proxy"), None
    yield from _proxy(evidence, side)


def _proxy(evidence: Evidence, side: Side) -> Iterator[_Answer]:
    if side.refused:
        words = "; ".join(side.refused)
        sentence = f"The Envoy of {side} keeps its last good configuration, since it refused the new one: {words}."
        cause = Cause("configuration-refused", sentence, fixes.edit(side.refused_objects))
        yield Look(f"Does the Envoy of {side} take its configuration?", False, words), cause
    if side.clock_ahead is not None and abs(side.clock_ahead) > CLOCK_TOLERANCE:
        seconds = side.clock_ahead.total_seconds()
        off = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'}"
        sentence = (
            f"The clock of {side} is {off} this machine's; whichever is wrong takes good certificates for ended, or "
            "for not begun: set the clocks of the nodes, and of this machine, by NTP."
        )
        yield Look(f"Is the clock of {side} right?", False, f"{off} this machine's"), Cause("clock-skew", sentence)
    question = f"Is the certificate of {side} valid?"
    held = side.certificate
    if held is None:
        cause = Cause(
            "no-certificate",
            f"The sidecar of {side} has no certificate, so it can neither be configured nor speak mutual TLS.",
            fixes.agent_log(side),
        )
        yield Look(question, False, "no certificate: the Secret is not supplied by SDS"), cause
        return
    span = f"{held.not_before:%Y-%m-%dT%H:%M:%SZ} to {held.not_after:%Y-%m-%dT%H:%M:%SZ}"
    if evidence.now >= held.not_after:
        cause = Cause("certificate-expired", f"The certificate of {side} ended: {span}.", fixes.restart(side))
        yield Look(question, False, span), cause
    yield Look(question, True, span), None
    question = f"Does the certificate name {side}?"
    named = held.identity == side.expected_identity
    wrong = Cause(
        "wrong-identity",
        f"The certificate of {side} names {held.identity} and not {side.expected_identity}.",
        fixes.restart(side),
    )
    yield Look(question, named, held.identity), None if named else wrong
    if evidence.mesh_roots and not evidence.mesh_roots & held.roots:
        sentence = f"{side} trusts none of the roots that the mesh has, so that it believes nobody, and nobody it."
        yield (
            Look(f"Does {side} trust the mesh's root?", False, "no root in common"),
            Cause("roots-differ", sentence, fixes.restart(side)),
        )
    if side.connected is False:
        cause = Cause(
            "not-connected", f"The sidecar of {side} is not connected to the control plane.", fixes.agent_log(side)
        )
        yield Look(f"Is {side} connected to the control plane?", False, "no"), cause
    if not side.proxy_ready:
        cause = Cause("proxy-not-ready", f"The sidecar of {side} is not ready.", fixes.agent_log(side))
        yield Look(f"Is the sidecar of {side} ready?", False, "no"), cause


def _behind(evidence: Evidence) -> _Answer:
    question = f"Is anything behind {evidence.target}?"
    if evidence.trouble:
        cause = Cause("no-endpoints", f"Nothing is behind {evidence.target}: {evidence.trouble}.")
        return Look(question, False, evidence.trouble), cause
    return Look(question, True, str(evidence.server or evidence.target)), None


def _trust(client: Side, server: Side) -> Iterator[_Answer]:
    if client.certificate is None or server.certificate is None:
        return
    common = client.certificate.roots & server.certificate.roots
    text = "a common root" if common else "no root in common"
    cause = Cause(
        "roots-differ",
        f"{client} and {server} trust different roots, so that neither believes the other.",
        fixes.restart(client, server),
    )
    yield Look("Do both trust the same root?", bool(common), text), None if common else cause


def _policy(evidence: Evidence, taken: Taken) -> _Answer:
    by = _by(taken)
    shown = taken.reason if not by or by in taken.reason else f"{taken.reason} ({by})"
    return Look(_QUESTIONS[taken.step], taken.passed, shown), None if taken.passed else _refusal(evidence, taken)


def _by(taken: Taken) -> str:
    """The object that decided a step; "" if a default did."""
    by = taken.decided_by
    return f"{by.kind} {by.namespace}/{by.name}" if by else ""


_QUESTIONS = {
    Step.CLIENT: "How does the client dial?",
    Step.SERVER: "Does the server's port take such a connection?",
    Step.SECURE_NAMING: "Does the client believe the server?",
    Step.CUSTOM: "Does the external authorizer allow it?",
    Step.TOKEN: "Is the end user's token good?",
    Step.DENY: "Does a DENY policy match?",
    Step.ALLOW: "Do the ALLOW policies let it pass?",
}


def _refusal(evidence: Evidence, taken: Taken) -> Cause:
    client, target = evidence.client, evidence.target
    match taken.step:
        case Step.CLIENT:
            return Cause("client-cannot-dial", f"{client} cannot dial {target}: {taken.reason}.")
        case Step.SERVER:
            return _wrong_protection(evidence, taken)
        case Step.SECURE_NAMING:
            return Cause("server-not-believed", f"{client} does not believe who answers for {target}: {taken.reason}.")
        case _:
            by = f" by {_by(taken)}" if taken.decided_by else ""
            sentence = f"{client} is refused at {target}{by}: {taken.reason}."
            return Cause("authorization-denied", sentence, fixes.authorize(evidence, taken))


def _wrong_protection(evidence: Evidence, taken: Taken) -> Cause:
    client, target, outcome = evidence.client, evidence.target, evidence.outcome
    if outcome is not None and outcome.protection is Protection.MUTUAL_TLS:
        sentence = f"{client} speaks mutual TLS to {target}, which takes none: {taken.reason}."
        return Cause("mtls-to-plaintext", sentence, fixes.client_rule(evidence, "DISABLE"))
    if client.has_sidecar:
        rule = outcome.steps[0].decided_by if outcome else None
        named = f"DestinationRule {rule.namespace}/{rule.name}" if rule else "its configuration"
        sentence = f"{named} makes {client} speak plaintext to {target}, which demands mutual TLS: {taken.reason}."
        return Cause("destination-rule-disables-mtls", sentence, fixes.client_rule(evidence, "ISTIO_MUTUAL"))
    sentence = (
        f"{client} has no sidecar ({client.injection}), so it speaks plaintext, and {target} demands mutual TLS: "
        f"{taken.reason}."
    )
    return Cause("plaintext-to-strict", sentence, fixes.inject(client))


def _application(evidence: Evidence, side: Side) -> _Answer:
    port = evidence.server_port
    question = f"Does an application wait on port {port} of {side}?"
    match evidence.listening:
        case Listening.NO:
            sentence = f"Nothing waits on port {port} of {side}: compare the Service's targetPort with the application."
            return Look(question, False, "no"), Cause("application-not-listening", sentence, fixes.describe(side))
        case Listening.LOOPBACK:
            sentence = (
                f"The application of {side} waits on port {port} of 127.0.0.1 only; it has to listen on 0.0.0.0, since "
                "the sidecar dials the pod's address."
            )
            return Look(question, False, "on 127.0.0.1 only"), Cause("application-on-loopback", sentence)
        case Listening.YES:
            return Look(question, True, "yes"), None
        case _:
            return Look(question, None, "not known"), None
