"""What error texts of Envoy, curl and kubectl mean in a mesh: the causes behind each, the likeliest first."""

import re
from typing import NamedTuple


class Meaning(NamedTuple):
    """One text that people paste. `causes` are names of a diagnosis; `next` is what to type."""

    title: str
    pattern: re.Pattern[str]
    explanation: str
    causes: tuple[str, ...]
    next: str = "mutua diagnose CLIENT SERVER"


def _meaning(title: str, pattern: str, explanation: str, *causes: str) -> Meaning:
    return Meaning(title, re.compile(pattern, re.IGNORECASE), explanation, causes)


MEANINGS: tuple[Meaning, ...] = (
    _meaning(
        "WRONG_VERSION_NUMBER",
        r"WRONG_VERSION_NUMBER|wrong version number",
        "The client spoke TLS and the server answered in plaintext: the client's DestinationRule asks for mutual TLS "
        "from a server without a sidecar, or whose port is DISABLE.",
        "mtls-to-plaintext",
    ),
    _meaning(
        "CERTIFICATE_VERIFY_FAILED",
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|unable to get local issuer|verify SAN list",
        "One side does not believe the other's certificate: different roots, an ended certificate, a wrong clock, or "
        "an identity that the client does not expect.",
        "roots-differ",
        "certificate-expired",
        "clock-skew",
        "server-not-believed",
    ),
    _meaning(
        "filter_chain_not_found",
        r"filter_chain_not_found|no matching filter chain",
        "The server's sidecar has no way to take such a connection: plaintext reached a port whose mode is STRICT.",
        "plaintext-to-strict",
        "destination-rule-disables-mtls",
    ),
    _meaning(
        "RBAC: access denied",
        r"RBAC: access denied|rbac_access_denied",
        "An AuthorizationPolicy of the server refuses the request (HTTP 403): a DENY rule matches, or ALLOW policies "
        "exist and none of their rules names this client and request.",
        "authorization-denied",
    ),
    _meaning(
        "Secret is not supplied by SDS",
        r"Secret is not supplied by (dynamic )?SDS",
        "The sidecar has no certificate yet: its agent cannot reach the control plane, or its request was refused.",
        "no-certificate",
        "not-connected",
    ),
    _meaning(
        "no healthy upstream",
        r"no healthy upstream|no_healthy_upstream|\bUH\b",
        "The Service has no endpoint that is ready: its selector matches no pod, or the pods are not ready.",
        "no-endpoints",
        "pod-not-running",
    ),
    _meaning(
        "upstream connect error",
        r"upstream connect error|delayed_connect_error|upstream_reset_before_response_started|Connection refused",
        "The connection to the server or its application failed. `connection refused` behind it: nobody waits on the "
        "port, or on 127.0.0.1 only; `connection termination` or `TLS error`: the two sides differ on mutual TLS.",
        "application-not-listening",
        "application-on-loopback",
        "destination-rule-disables-mtls",
        "mtls-to-plaintext",
    ),
    _meaning(
        "connection reset",
        r"connection reset|reset by peer|Empty reply from server|unexpected EOF",
        "The server's sidecar closed the connection before a byte of an answer: plaintext reached a STRICT port.",
        "plaintext-to-strict",
        "destination-rule-disables-mtls",
    ),
    _meaning(
        "JWT",
        r"Jwt (is missing|verification fails|is expired|issuer is not configured)|jwt_authn_access_denied",
        "A RequestAuthentication of the server refuses the end user's token, or a policy asks for one.",
        "authorization-denied",
    ),
    _meaning(
        "BlackHoleCluster",
        r"BlackHoleCluster",
        "The client's sidecar does not dial hosts that it does not know (REGISTRY_ONLY).",
        "client-cannot-dial",
    ),
    _meaning(
        "certificate has expired",
        r"certificate (has )?expired|CERTIFICATE_EXPIRED",
        "A certificate has ended: the agent could not renew it in time.",
        "certificate-expired",
    ),
)


def understood(text: str) -> tuple[Meaning, ...]:
    """Every meaning whose words occur in the text, the most telling first."""
    return tuple(meaning for meaning in MEANINGS if meaning.pattern.search(text))
