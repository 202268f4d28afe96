"""Secrets that live in the proxy's own files, under the names that DestinationRules lead to. Source: Istio's agent."""

import ssl
from pathlib import Path

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from mutua.errors import NotFoundError
from mutua.system import files

CERTIFICATE_PREFIX = "file-cert:"  # then the certificate's path, `~`, the key's path
ROOT_PREFIX = "file-root:"  # then a path, or `system`; `~` and the path of revocation lists may follow
SYSTEM_ROOTS = "system"
MAX_BYTES = 1024 * 1024


def is_file_name(name: str) -> bool:
    """Whether a secret of this name comes from files."""
    return name.startswith((CERTIFICATE_PREFIX, ROOT_PREFIX))


def read(name: str) -> secret_pb2.Secret:
    """The secret as the files hold it now.

    Raises NotFoundError: not a name of this kind, a path that is not absolute, a file that is missing, cannot be read,
    or is longer than a mebibyte.
    """
    secret = secret_pb2.Secret(name=name)
    if name.startswith(CERTIFICATE_PREFIX):
        certificate, separator, key = name.removeprefix(CERTIFICATE_PREFIX).partition("~")
        if not separator or "~" in key:
            raise NotFoundError(f"{name[:200]!r} does not name one certificate and one key")
        secret.tls_certificate.certificate_chain.inline_bytes = _content(certificate)
        secret.tls_certificate.private_key.inline_bytes = _content(key)
        return secret
    if not name.startswith(ROOT_PREFIX):
        raise NotFoundError(f"{name[:200]!r} is not a secret from files")
    path, _, revoked = name.removeprefix(ROOT_PREFIX).partition("~")
    secret.validation_context.trusted_ca.inline_bytes = _content(_system_roots() if path == SYSTEM_ROOTS else path)
    if revoked:
        secret.validation_context.crl.inline_bytes = _content(revoked)
    return secret


def _content(path: str) -> bytes:
    if not path.startswith("/"):
        raise NotFoundError(f"{path[:200]!r} is not an absolute path", "name the file as the proxy's container sees it")
    try:
        content = files.read_limited(Path(path), MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NotFoundError(
            f"file {path[:200]!r} cannot be used: {reason}", "is it mounted into istio-proxy?"
        ) from error
    if not content.strip():
        raise NotFoundError(f"file {path[:200]!r} is empty")
    return content


def _system_roots() -> str:
    return ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
