"""What an authority and its rotation look like to people."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mutua.ca.authority import Authority
from mutua.ca.bundle import is_authority
from mutua.ca.rollover import Rollover, Stage

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384"}
STEPS = {
    Stage.DISTRIBUTE: "1/3 every proxy learns the new root beside the old one",
    Stage.RENEW: "2/3 every proxy gets a certificate of the new issuer",
    Stage.RETIRE: "3/3 every proxy drops the old root",
}


def certificates(authority: Authority, now: datetime) -> str:
    """The signer, the way to the root and the roots."""
    blocks = [_block("signs", authority.certificate, now)]
    blocks += [_block("between", each, now) for each in authority.chain if each != authority.certificate]
    blocks += [_block("root", each, now) for each in authority.roots]
    return "".join(blocks)


def listed(found: Iterable[x509.Certificate], now: datetime) -> str:
    """Any certificates, as they come."""
    return "".join(_block("CA" if is_authority(each) else "leaf", each, now) for each in found)


def status(
    state: Rollover,
    roots: Sequence[x509.Certificate],
    waiting: Sequence[Mapping[str, str]],
    now: datetime,
    *,
    external: bool = False,
    problem: str = "",
) -> str:
    """`mutua ca status`. `waiting`: `namespace`, `pod` and `why` of each proxy that a rotation waits for.

    `external`: somebody else signs for workloads. `problem`: why a plugged-in authority is not used.
    """
    lines = [f"authority   {state.issuer or 'none'}", f"from        secret {state.origin or 'unknown'}"]
    if external:
        lines.append("signs       for the control plane only; an external authority signs for workloads")
    if problem:
        lines.append(f"problem     {problem}")
    for root in roots:
        lines.append(f"root        {_subject(root)}, until {_time(root.not_valid_after_utc)}")
    if state.stage is Stage.SETTLED:
        lines.append("rotation    none under way")
        if state.declined:
            lines.append(f"aborted     {state.declined} is not taken up again until its secret changes")
        return "\n".join(lines) + "\n"
    paused = ", paused" if state.paused else ""
    since = _ago(now - state.since) if state.since else "?"
    lines += [
        f"rotation    {STEPS[state.stage]} ({state.stage}, for {since}{paused})",
        f"because     {state.reason}",
        f"successor   {state.successor} from secret {state.successor_origin}",
    ]
    lines.append(f"waiting for {len(waiting)} proxies")
    lines += [f"  {each['namespace']}/{each['pod']}: {each['why']}" for each in waiting]
    return "\n".join(lines) + "\n"


def rehearsal(told: Sequence[Mapping[str, Any]], silent: Sequence[tuple[str, str]]) -> str:
    """Who would hold up a rotation: it waits for each of these, since without it they would be cut off."""
    lines = [f"{len(told) + len(silent)} proxies would be led over; nothing is changed by this rehearsal"]
    lines += [f"  {namespace}/{pod}: has not told what it holds" for namespace, pod in silent]
    failing = [each for each in told if each["error"]]
    lines += [f"  {each['namespace']}/{each['pod']}: cannot renew: {each['error']}" for each in failing]
    if not silent and not failing:
        lines.append("no proxy would hold it up, none would be cut off")
    return "\n".join(lines) + "\n"


def _block(role: str, certificate: x509.Certificate, now: datetime) -> str:
    """One certificate: names and serial numbers are too long for the columns of a table, and nothing may be cut."""
    left = certificate.not_valid_after_utc - now
    days = "expired" if left <= timedelta(0) else f"{left.days} days left"
    return (
        f"{role:9}{_subject(certificate)}\n"
        f"{'':9}{_key(certificate)}, serial {certificate.serial_number:032x}\n"
        f"{'':9}until {_time(certificate.not_valid_after_utc)}, {days}\n"
    )


def _key(certificate: x509.Certificate) -> str:
    match certificate.public_key():
        case ec.EllipticCurvePublicKey() as key:
            return f"ECDSA {_CURVES.get(key.curve.name, key.curve.name)}"
        case rsa.RSAPublicKey() as key:
            return f"RSA {key.key_size}"
        case key:
            return type(key).__name__


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "(none)"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _ago(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
