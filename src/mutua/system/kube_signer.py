"""An external authority behind Kubernetes' CertificateSigningRequests: ask, approve, wait for the answer, clean up."""

import asyncio
import base64
import contextlib
import secrets
from typing import Any

import msgspec

from mutua.ca.errors import AuthorityError
from mutua.ca.external import Order
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError
from mutua.system.kube_resources import CERTIFICATE_SIGNING_REQUESTS, EventType
from mutua.system.logs import Log

USAGES = ("digital signature", "key encipherment", "server auth", "client auth")
SHORTEST_SECONDS = 600
"""What the API takes at least (its validation); a signer may give less or more, and what it gave is checked."""

NAME_PREFIX = "csr-workload-"

_LOG = Log("external-ca")


class _Condition(msgspec.Struct):
    type: str = ""
    reason: str = ""
    message: str = ""


class _Status(msgspec.Struct):
    conditions: list[_Condition] | None = None
    certificate: str = ""


class _Request(msgspec.Struct):
    status: _Status | None = None


class KubernetesSigner:
    """Creates one request for each order, approves it in the control plane's name, and waits until it is signed.

    The control plane's own checks stand in for an approver's: the request names the proven caller and nothing else.
    Source: Istio's kubernetes registration authority (`ISTIOD_RA_KUBERNETES_API`).
    """

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube

    async def sign(self, order: Order) -> bytes:
        """The chain (PEM). Raises AuthorityError: refused, denied, failed, or the API server does not answer."""
        name = f"{NAME_PREFIX}{secrets.token_hex(8)}"
        body: dict[str, Any] = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name, "annotations": {"mutua/identity": str(order.identity)}},
            "spec": {
                "request": base64.b64encode(order.csr.encode()).decode(),
                "signerName": order.signer,
                "usages": list(USAGES),
                "expirationSeconds": max(SHORTEST_SECONDS, int(order.ttl.total_seconds())),
            },
        }
        try:
            created = await self._kube.create(CERTIFICATE_SIGNING_REQUESTS, body)
            try:
                await self._approve(created)
                return await self._answer(name)
            finally:
                await asyncio.shield(self._clean_up(name))
        except KubeError as error:
            raise AuthorityError(f"signer {order.signer!r}: {error.message}") from error

    async def _approve(self, created: dict[str, Any]) -> None:
        condition = {
            "type": "Approved",
            "status": "True",
            "reason": "CallerIsProven",
            "message": "the control plane has verified that the caller is whom the request names",
        }
        approved = created | {"status": {"conditions": [condition]}}
        await self._kube.replace(CERTIFICATE_SIGNING_REQUESTS, approved, subresource="approval")

    async def _answer(self, name: str) -> bytes:
        watch = self._kube.watch(CERTIFICATE_SIGNING_REQUESTS, field_selector=f"metadata.name={name}")
        async with contextlib.aclosing(watch):
            async for event in watch:
                if event.type is EventType.DELETED:
                    break
                for raw in event.objects:
                    status = msgspec.json.decode(raw, type=_Request).status or _Status()
                    for condition in status.conditions or ():
                        if condition.type in ("Denied", "Failed"):
                            reason = f"{condition.reason}: {condition.message}"
                            raise AuthorityError(f"request {name} was {condition.type.lower()}: {reason[:500]}")
                    if status.certificate:
                        return base64.b64decode(status.certificate)
        raise AuthorityError(f"request {name} was deleted before it was answered")

    async def _clean_up(self, name: str) -> None:
        try:
            await self._kube.delete(CERTIFICATE_SIGNING_REQUESTS, name)
        except KubeError as error:
            _LOG.debug("a request stays until the cluster forgets it", name=name, problem=error.message)
