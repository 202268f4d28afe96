"""CertificateSigningRequests: who asked is what the server knows; approving and signing are rights of their own. Pure.

Nothing here signs: a signer is a controller that somebody runs. Source: registry/certificates/certificates/strategy.go,
and the admission plugins CertificateApproval and CertificateSigning.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from localcluster.apiserver.authorization.rules import Attributes
from localcluster.apiserver.context import UserInfo
from localcluster.apiserver.metadata import timestamp

Object = dict[str, Any]

APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"
APPROVAL = "approval"
_DECISIONS = (APPROVED, DENIED)
_SPEC = "spec"

PENDING_LIFETIME = timedelta(hours=24)
DECIDED_LIFETIME = timedelta(hours=1)
"""How long requests are kept. Source: the controller `csrcleaner`."""


def prepare_for_create(object: Object, user: UserInfo) -> None:
    """Write into a new request who asks; whatever it says itself about that is not believed."""
    spec = object.setdefault(_SPEC, {})
    for name in ("username", "uid", "groups", "extra"):
        spec.pop(name, None)
    spec |= user.as_json()


def prepare_for_update(old: Object, new: Object, subresource: str) -> Object:
    """What is written: nobody changes a request, only an approver decides it, only a signer answers it."""
    merged = {**old, "metadata": new["metadata"] if not subresource else old["metadata"]}
    if "managedFields" in new["metadata"]:
        merged["metadata"] = {**merged["metadata"], "managedFields": new["metadata"]["managedFields"]}
    if not subresource:
        return merged
    before, after = old.get("status") or {}, new.get("status") or {}
    kept = (FAILED,) if subresource == APPROVAL else _DECISIONS
    conditions = [
        *(each for each in before.get("conditions") or () if each.get("type") in kept),
        *(each for each in after.get("conditions") or () if each.get("type") not in kept),
    ]
    now = timestamp()
    status: Object = {"conditions": [{"lastUpdateTime": now, "lastTransitionTime": now, **each} for each in conditions]}
    certificate = before.get("certificate") if subresource == APPROVAL else after.get("certificate")
    if certificate:
        status["certificate"] = certificate
    return {**merged, "status": status if conditions or certificate else {}}


def required_rights(old: Object, new: Object, subresource: str, user: UserInfo) -> tuple[Attributes, ...]:
    """By which rights a decision or an answer may be written, one of them suffices; () = none is asked for.

    The right is to `approve` or `sign` for the signer: `signers` of that name, or of its domain with `*`.
    """
    signer = str((old.get(_SPEC) or {}).get("signerName", ""))
    before, after = old.get("status") or {}, new.get("status") or {}
    if subresource == APPROVAL:
        verb = "approve"
    elif subresource == "status" and (
        before.get("certificate") != after.get("certificate") or _failed(before) != _failed(after)
    ):
        verb = "sign"
    else:
        return ()
    domain = signer.partition("/")[0]
    return tuple(
        Attributes(user, verb, group="certificates.k8s.io", resource="signers", name=name)
        for name in (signer, f"{domain}/*")
    )


def ends(request: Object) -> datetime:
    """When a request is deleted, unless something happens to it."""
    status = request.get("status") or {}
    conditions = status.get("conditions") or ()
    if not conditions and not status.get("certificate"):
        return datetime.fromisoformat(request["metadata"]["creationTimestamp"]) + PENDING_LIFETIME
    times = [each.get("lastUpdateTime") for each in conditions] or [request["metadata"]["creationTimestamp"]]
    return max(datetime.fromisoformat(text) for text in times if text) + DECIDED_LIFETIME


def _failed(status: Object) -> Object | None:
    return next((each for each in status.get("conditions") or () if each.get("type") == FAILED), None)
