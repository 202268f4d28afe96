"""An authority's files: Istio's four names or a kubernetes.io/tls secret's three, read and checked; and written."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from mutua.ca import authority, revocation
from mutua.ca.authority import Authority
from mutua.ca.bundle import PLUGGED_IN_FILES, TLS_SECRET_FILES, BundleFormat, certificates, detect_format
from mutua.ca.errors import AuthorityError
from mutua.secret import Secret

CRL_FILE = "ca-crl.pem"


@dataclass(frozen=True, slots=True)
class SigningFiles:
    """What an authority is made of, as bytes (PEM). The key prints as `[redacted]`."""

    certificate: bytes
    key: Secret
    chain: bytes
    roots: bytes
    revoked: bytes = b""  # certificate revocation lists; b"" = none

    def load(self, now: datetime) -> Authority:
        """The authority, after checking that its parts fit. Raises AuthorityError."""
        return authority.load(self.certificate, self.key, self.roots, self.chain, now)

    def verify(self, now: datetime) -> Authority:
        """As `load`, and the revocation lists must be whole and current: what is asked of files that are new."""
        found = self.load(now)
        if self.revoked.strip():
            revocation.check(self.revoked, (*found.chain, *found.roots), now)
        return found

    def load_roots(self) -> tuple[x509.Certificate, ...]:
        """The roots alone, whether or not the rest may still sign."""
        return certificates(self.roots)

    def as_files(self) -> dict[str, bytes]:
        """Under Istio's names; `ca-key.pem` is the secret one."""
        named = {
            "ca-cert.pem": self.certificate,
            "ca-key.pem": self.key.reveal(),
            "cert-chain.pem": self.chain,
            "root-cert.pem": self.roots,
        }
        return named | ({CRL_FILE: self.revoked} if self.revoked else {})


def read(files: Mapping[str, bytes], origin: str) -> SigningFiles | None:
    """The files of a plugged-in authority; None if none of them is there. `origin` names the place in errors.

    `tls.crt` wins where both forms are present. Raises AuthorityError naming the missing files: half an authority is
    never completed from elsewhere. Source: Istio's detectSigningCABundleAndCRL.
    """
    match detect_format(files.keys()):
        case BundleFormat.NONE:
            return None
        case BundleFormat.ISTIO:
            return SigningFiles(
                certificate=files["ca-cert.pem"],
                key=Secret(files["ca-key.pem"]),
                chain=files["cert-chain.pem"],
                roots=files["root-cert.pem"],
                revoked=files.get(CRL_FILE, b""),
            )
        case BundleFormat.TLS_SECRET:
            return SigningFiles(
                certificate=files["tls.crt"],
                key=Secret(files["tls.key"]),
                chain=files["tls.crt"] + b"\n" + files["ca.crt"],
                roots=files["ca.crt"],
            )
        case _:
            wanted = TLS_SECRET_FILES if "tls.crt" in files else PLUGGED_IN_FILES
            missing = [name for name in wanted if name not in files]
            raise AuthorityError(
                f"{origin} is incomplete: {', '.join(missing)} missing; needed are {', '.join(wanted)}"
            )
