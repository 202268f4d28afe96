"""The mesh's authority from the cluster's secrets: plugged in by its operator, or made once for all replicas."""

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography import x509

from mutua.ca import authority, self_signed
from mutua.ca.authority import Authority
from mutua.ca.bundle import BundleFormat, detect_format, pem
from mutua.ca.errors import AuthorityError
from mutua.secret import Secret
from mutua.system import keys
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeConflictError
from mutua.system.kube_resources import SECRETS
from mutua.system.logs import Log

PLUGGED_IN = "cacerts"
SELF_SIGNED = "istio-ca-secret"
SELF_SIGNED_TYPE = "istio.io/ca-root"

_LOG = Log("ca")


async def load_or_create(kube: KubeClient, namespace: str, trust_domain: str, now: datetime) -> Authority:
    """The authority that every replica agrees on.

    `cacerts` wins and is never fallen back from: if it is incomplete or broken, AuthorityError says which part. Else
    `istio-ca-secret`; the first replica creates it, and the others use what was created. Raises KubeError.
    """
    plugged_in = await kube.find(SECRETS, PLUGGED_IN, namespace)
    if plugged_in is not None:
        found = _plugged_in(_data(plugged_in), now)
        _LOG.info("signing with the plugged-in authority", secret=PLUGGED_IN, expires=_expiry(found))
        return found
    stored = await kube.find(SECRETS, SELF_SIGNED, namespace)
    if stored is None:
        stored = await _create(kube, namespace, trust_domain, now)
    found = _self_signed(_data(stored), now)
    _LOG.info("signing with the self-signed authority", secret=SELF_SIGNED, expires=_expiry(found))
    return found


async def _create(kube: KubeClient, namespace: str, trust_domain: str, now: datetime) -> dict[str, Any]:
    key = keys.generate()
    made = self_signed.authority(key, trust_domain, now, x509.random_serial_number())
    root = made.root_bundle.encode()
    files = {
        "ca-cert.pem": root,
        "ca-key.pem": keys.to_pem(key).reveal(),
        "root-cert.pem": root,
        "cert-chain.pem": b"",
        "key.pem": b"",
    }
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SELF_SIGNED, "namespace": namespace, "labels": {"app": "istiod"}},
        "type": SELF_SIGNED_TYPE,
        "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }
    try:
        return await kube.create(SECRETS, body, namespace)
    except KubeConflictError:
        _LOG.info("another replica created the authority first; using that", secret=SELF_SIGNED)
        return await kube.get(SECRETS, SELF_SIGNED, namespace)


def _plugged_in(files: Mapping[str, bytes], now: datetime) -> Authority:
    match detect_format(files.keys()):
        case BundleFormat.ISTIO:
            certificate, key = files["ca-cert.pem"], files["ca-key.pem"]
            roots, chain = files["root-cert.pem"], files["cert-chain.pem"]
        case BundleFormat.TLS_SECRET:
            certificate, key = files["tls.crt"], files["tls.key"]
            roots, chain = files["ca.crt"], files["tls.crt"]
        case _:
            raise AuthorityError(
                f"secret {PLUGGED_IN} is incomplete: it holds {', '.join(sorted(files)) or 'nothing'}; needed are "
                "ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem. Nothing is signed until it is whole"
            )
    try:
        return authority.load(certificate, Secret(key), roots, chain, now)
    except AuthorityError as error:
        raise AuthorityError(
            f"secret {PLUGGED_IN} cannot be used: {error}. Nothing is signed until it is mended"
        ) from error


def _self_signed(files: Mapping[str, bytes], now: datetime) -> Authority:
    """`ca-cert.pem` is the root; the entry `root-cert.pem` may be stale after a renewal (Istio's rotator leaves it)."""
    try:
        certificate, key = files["ca-cert.pem"], files["ca-key.pem"]
    except KeyError as error:
        raise AuthorityError(f"secret {SELF_SIGNED} lacks {error}; delete it to have a new root made") from error
    return authority.load(certificate, Secret(key), certificate, b"", now)


def _data(secret: Mapping[str, Any]) -> dict[str, bytes]:
    return {name: base64.b64decode(text) for name, text in (secret.get("data") or {}).items()}


def _expiry(found: Authority) -> str:
    return f"{found.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"


def root_certificates(found: Authority) -> str:
    """What every workload must trust, as PEM."""
    return pem(found.roots)
