"""`meshConfig.certificates`: certificates for DNS names, kept in secrets of the root namespace and renewed in time."""

import asyncio
import base64
import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from mutua.api.meshconfig import Certificate, MeshConfig
from mutua.ca import authority as authorities
from mutua.ca import bundle, issue, rotation
from mutua.ca.authority import Authority
from mutua.ca.errors import IssueError
from mutua.system import clock, keys
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeConflictError, KubeError
from mutua.system.kube_resources import SECRETS
from mutua.system.logs import Log

TTL = timedelta(days=90)
LABEL = "istio.io/dns-certificate"
LOOK_SECONDS = 60.0
CONFIGURATION_SECONDS = 2.0
_MAX_NAMES = 100

_LOG = Log("dns-certificates")


class DnsCertificates:
    """Writes a secret that is missing, has other names, is past 80 % of its life, or is of another issuer.

    A secret that exists and is not ours is left alone. The secret is of type kubernetes.io/tls, as ingress controllers
    and volumes expect it, and repeats its content under Istio's older names (`cert-chain.pem`, `key.pem`,
    `root-cert.pem`) for what was written for those.
    """

    def __init__(
        self,
        kube: KubeClient,
        mesh: Callable[[], MeshConfig],
        authority: Callable[[], Authority | None],
        now: clock.Clock = clock.now,
    ) -> None:
        self._kube = kube
        self._mesh = mesh
        self._authority = authority
        self._now = now
        self._wake = asyncio.Event()
        self._refused: set[str] = set()

    def look(self) -> None:
        """The authority changed: look at once."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            wanted = self._mesh().certificates
            self._wake.clear()
            for certificate in wanted:
                await self._keep(certificate)
            await self._wait(wanted)

    async def _wait(self, wanted: tuple[Certificate, ...]) -> None:
        """Until the authority or the settings change, at most a minute."""
        end = asyncio.get_running_loop().time() + LOOK_SECONDS
        while asyncio.get_running_loop().time() < end and self._mesh().certificates == wanted:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONFIGURATION_SECONDS):
                    await self._wake.wait()
                    return

    async def _keep(self, wanted: Certificate) -> None:
        namespace, authority = self._mesh().root_namespace, self._authority()
        if authority is None:
            return
        try:
            if not wanted.secret_name or not wanted.dns_names or len(wanted.dns_names) > _MAX_NAMES:
                raise ValueError(f"secretName and 1 to {_MAX_NAMES} dnsNames are needed")
            found = await self._kube.find(SECRETS, wanted.secret_name, namespace)
            if found is not None and LABEL not in (found["metadata"].get("labels") or {}):
                raise ValueError("a secret of this name exists and is not the mesh's; delete it or choose another name")
            if found is not None and is_good(found.get("data") or {}, wanted, authority, self._now()):
                return
            await self._write(wanted, authority, namespace, exists=found is not None)
        except (ValueError, IssueError, KubeError) as error:
            if (told := f"{wanted.secret_name}: {error}") not in self._refused:
                self._refused.add(told)
                _LOG.error("meshConfig.certificates cannot be followed", secret=wanted.secret_name, problem=error)

    async def _write(self, wanted: Certificate, authority: Authority, namespace: str, *, exists: bool) -> None:
        key = keys.generate()
        issued = issue.server_certificate(
            wanted.dns_names, key.public_key(), authority, self._now(), x509.random_serial_number(), TTL
        )
        chain, roots = "".join(issued.chain[:-1]).encode(), issued.chain[-1].encode()
        private = keys.to_pem(key).reveal()
        named = {"tls.crt": chain, "tls.key": private, "ca.crt": roots}
        named |= {"cert-chain.pem": chain, "key.pem": private, "root-cert.pem": roots}
        data = {name: base64.b64encode(content).decode() for name, content in named.items()}
        if exists:
            await self._kube.patch(SECRETS, wanted.secret_name, {"data": data}, namespace)
        else:
            metadata = {"name": wanted.secret_name, "namespace": namespace, "labels": {LABEL: "true"}}
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
            with contextlib.suppress(KubeConflictError):  # another replica was first
                await self._kube.create(SECRETS, body | {"type": "kubernetes.io/tls", "data": data}, namespace)
        _LOG.info(
            "certificate written",
            secret=wanted.secret_name,
            names=",".join(wanted.dns_names),
            serial=f"{issued.serial:x}",
            not_after=f"{issued.not_after:%Y-%m-%dT%H:%M:%SZ}",
        )


def is_good(data: Mapping[str, Any], wanted: Certificate, authority: Authority, now: datetime) -> bool:
    """Whether a secret's content need not be written anew: names, issuer and roots are right, and there is time."""
    try:
        leaf, *above = bundle.certificates(base64.b64decode(data["tls.crt"]))
        roots = bundle.certificates(base64.b64decode(data["ca.crt"]))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (KeyError, ValueError, x509.ExtensionNotFound):
        return False
    if "tls.key" not in data or {str(name.value) for name in names} != set(wanted.dns_names):
        return False
    if authorities.issuer_id(leaf, above) != authority.issuer_id or set(roots) != set(authority.roots):
        return False
    return rotation.delay(leaf.not_valid_before_utc, leaf.not_valid_after_utc, now) > timedelta(0)
