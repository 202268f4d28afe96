"""Where a webhook answers: clientConfig to URLs, TLS name and trust."""

from __future__ import annotations

import ssl
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from localcluster.apiserver.kinds import ENDPOINT_SLICE, SERVICE
from localcluster.apiserver.storage import Store


class UnreachableError(Exception):
    """There is nothing to call; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place to send a review to: `url` holds the address, `host` is the name in TLS and in the Host header."""

    url: str
    host: str


def targets(store: Store, client_config: Mapping[str, Any]) -> list[Target]:
    """The places where the webhook answers, ready ones first. UnreachableError if there are none."""
    url = client_config.get("url")
    if url:
        return [Target(str(url), urlsplit(str(url)).hostname or "")]
    reference = client_config.get("service") or {}
    namespace, name, port = reference.get("namespace", ""), reference.get("name", ""), int(reference.get("port") or 443)
    stored = store.get(SERVICE.storage_key, namespace, name)
    if stored is None:
        raise UnreachableError(f'service "{name}" not found in namespace {namespace}')
    spec = stored.object().get("spec") or {}
    chosen = next((item for item in spec.get("ports") or () if item.get("port") == port), None)
    if chosen is None:
        raise UnreachableError(f'service "{namespace}/{name}" has no port {port}')
    path = str(reference.get("path") or "").lstrip("/")
    host = f"{name}.{namespace}.svc"
    found = [
        Target(f"https://{address}:{number}/{path}", host)
        for address, number in _addresses(store, namespace, name, chosen.get("name", ""))
    ]
    if not found:
        raise UnreachableError(f'no endpoints available for service "{namespace}/{name}"')
    return found


def _addresses(store: Store, namespace: str, name: str, port_name: str) -> list[tuple[str, int]]:
    found = []
    for _, stored in store.entries(ENDPOINT_SLICE.storage_key, namespace):
        slice_ = stored.object()
        if (slice_["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != name:
            continue
        numbers = [port["port"] for port in slice_.get("ports") or () if (port.get("name") or "") == port_name]
        found += [
            (address, number)
            for endpoint in slice_.get("endpoints") or ()
            if (endpoint.get("conditions") or {}).get("ready", True)
            for address in endpoint.get("addresses") or ()
            for number in numbers
        ]
    return found


@lru_cache(maxsize=32)
def trust(ca_bundle: str) -> ssl.SSLContext:
    """TLS that trusts only `ca_bundle` (base64 of PEM); the system's authorities if it is empty."""
    try:
        roots = b64decode(ca_bundle, validate=True).decode() if ca_bundle else None
        context = ssl.create_default_context(cadata=roots)
    except (Base64Error, UnicodeDecodeError, ssl.SSLError, ValueError) as error:
        raise UnreachableError(f"caBundle holds no readable PEM certificates: {error}") from error
    # As Go's API server: an authority without key usage or key identifiers is one all the same.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
