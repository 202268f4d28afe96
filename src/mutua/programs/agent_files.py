"""A workload's identity from files on the pod: somebody else renews them, and Envoy follows."""

from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mutua.ca import authority, bundle
from mutua.errors import InvalidInputError, UnavailableError
from mutua.secret import Secret
from mutua.spiffe import SpiffeId
from mutua.system import clock, files
from mutua.system.ca_client import CaClient, IdentityStatement, WorkloadCertificate

FOLDERS = ("var/run/secrets/workload-spiffe-credentials", "etc/certs")
"""Where certificates may lie, the first that is there wins. Source: Istio's agent (security.go)."""

CERTIFICATE, KEY, ROOTS = "cert-chain.pem", "key.pem", "root-cert.pem"


def folder(root: Path, *, demanded: bool) -> Path | None:
    """The folder with a certificate, below the pod's root; None if there is none and none is `demanded`."""
    found = next((root / name for name in FOLDERS if (root / name / CERTIFICATE).exists()), None)
    return found or (root / FOLDERS[0] if demanded else None)


class _Mark(NamedTuple):
    inode: int
    changed: int
    size: int


class FileCertificates:
    """In the place of `CaClient`: certificates come from three files, reports go the usual way."""

    def __init__(self, place: Path, identity: SpiffeId, client: CaClient, now: clock.Clock = clock.now) -> None:
        self._place = place
        self._identity = identity
        self._client = client
        self._now = now
        self._taken: tuple[_Mark, ...] = ()

    def changed(self) -> bool:
        """Whether the files are others than those that were taken last."""
        return self._marks() != self._taken

    async def certificate(self, current: WorkloadCertificate | None = None, roots: bytes = b"") -> WorkloadCertificate:
        """What the files hold now.

        Raises UnavailableError when one is missing, InvalidInputError when they do not fit together, have ended, or are
        another workload's: Envoy then goes on with what it has.
        """
        marks = self._marks()
        try:
            chain, key, own_roots = (
                files.read_limited(self._place / name, bundle.MAX_BYTES) for name in (CERTIFICATE, KEY, ROOTS)
            )
        except (OSError, ValueError) as error:
            raise UnavailableError(f"the certificate's files in {self._place} cannot be read: {error}") from error
        found = self._checked(chain, Secret(key), own_roots)
        self._taken = marks
        return found

    async def report(self, current: WorkloadCertificate, statement: IdentityStatement, roots: bytes = b"") -> None:
        """As `CaClient.report`."""
        await self._client.report(current, statement, roots)

    def _checked(self, chain: bytes, key: Secret, roots: bytes) -> WorkloadCertificate:
        try:
            leaf, *above = bundle.certificates(chain)
            trusted = bundle.certificates(roots)
            public = load_pem_private_key(key.reveal(), password=None).public_key()
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            identities = names.get_values_for_type(x509.UniformResourceIdentifier)
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
            raise InvalidInputError(f"the certificate's files in {self._place} cannot be used: {error}") from error
        if public != leaf.public_key():
            raise InvalidInputError(f"{self._place / KEY} is not the key of {CERTIFICATE}")
        if identities != [str(self._identity)]:
            raise InvalidInputError(
                f"{self._place / CERTIFICATE} is of {identities}, this workload is {self._identity}"
            )
        if not leaf.not_valid_before_utc <= self._now() < leaf.not_valid_after_utc:
            raise InvalidInputError(
                f"{self._place / CERTIFICATE} is valid from {leaf.not_valid_before_utc} to {leaf.not_valid_after_utc}"
            )
        if not authority.leads_to(trusted, [leaf, *above]):
            raise InvalidInputError(f"{self._place / CERTIFICATE} does not lead to a certificate of {ROOTS}")
        return WorkloadCertificate(
            key=key,
            chain=chain,
            roots=roots,
            serial=leaf.serial_number,
            issuer=authority.issuer_id(leaf, above),
            created=self._now(),
            expires=leaf.not_valid_after_utc,
        )

    def _marks(self) -> tuple[_Mark, ...]:
        found = []
        for name in (CERTIFICATE, KEY, ROOTS):
            try:
                status = (self._place / name).stat()
            except OSError:
                continue
            found.append(_Mark(status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)
