"""Certificates that somebody else signs: what is asked for, and the last look at what came back.

`ExternalSigner` is the whole interface of a plugin. Everything that decides who gets what stays here: an external
authority gets a request that names the proven caller, and its answer is checked as if it came from an enemy.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

import msgspec
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mutua.ca import authority, csr, policy
from mutua.ca.bundle import certificates, is_authority, pem
from mutua.ca.caller import Caller
from mutua.ca.csr import PublicKey
from mutua.ca.errors import AuthorityError, CsrError, SignedWrongError
from mutua.ca.issue import Issued
from mutua.ca.limits import Limits
from mutua.spiffe import SpiffeId

MAX_CHAIN = 10


class Order(msgspec.Struct, frozen=True):
    """What an external authority is asked to sign."""

    csr: str  # PEM; its one name is `identity`, and its signature was checked
    identity: SpiffeId
    ttl: timedelta
    signer: str  # which of its signers; "" = its only one


class ExternalSigner(Protocol):
    """An external authority.

    A plugin is a package with an entry point in the group `mutua.certificate_signers` whose value is a callable without
    arguments that gives one of these; `EXTERNAL_CA` names the entry point. It reads its own settings.
    """

    async def sign(self, order: Order) -> bytes:
        """The chain as PEM: the leaf, then intermediates. Called by several callers at once; cancelled when it takes
        too long. Raises `AuthorityError` (or anything) when there is no certificate; the text goes into the log."""
        ...


SignerFactory = Callable[[], ExternalSigner]


class Granted(msgspec.Struct, frozen=True):
    """An order, and what the answer is compared with."""

    order: Order
    public_key: PublicKey


def order(csr_pem: str, caller: Caller, requested_ttl: timedelta, limits: Limits, signer: str) -> Granted:
    """What to ask for on behalf of a proven caller.

    External authorities take the names from the request, so it must hold the caller's identity, alone, and no common
    name. Raises CsrError, TtlError.
    """
    request = csr.parse(csr_pem)
    grant = policy.grant(caller, request, requested_ttl, limits)
    if request.names != (str(caller.identity),) or request.has_common_name:
        raise CsrError(f"an external authority signs requests for exactly {caller.identity}, without a common name")
    return Granted(Order(csr_pem, grant.identity, grant.ttl, signer), grant.public_key)


def accept(
    chain_pem: bytes, granted: Granted, signer_roots: str, mesh_roots: str, now: datetime, limits: Limits
) -> Issued:
    """The answer, if it is what was ordered: our key, the one name, a leaf for both sides of mutual TLS, valid now and
    not for longer than the mesh allows, and signed under the roots that the mesh's settings name for the signer.

    `mesh_roots` go along as the last element, as with the mesh's own authority. Raises SignedWrongError with every
    difference, AuthorityError when nobody said which roots to expect.
    """
    wanted = granted.order
    if not signer_roots.strip():
        raise AuthorityError(
            f"no roots are known for signer {wanted.signer!r}: name it in meshConfig.caCertificates, certSigners"
        )
    try:
        leaf, *intermediates = certificates(chain_pem)
        roots = certificates(signer_roots.encode())
    except ValueError as error:
        raise SignedWrongError(f"the answer of signer {wanted.signer!r} cannot be read: {error}") from error
    intermediates = [each for each in intermediates if each not in roots]
    differences = [*_differences(leaf, granted, now, limits), *_path_problems(leaf, intermediates, roots, now)]
    if differences:
        raise SignedWrongError(f"signer {wanted.signer!r} answered with another certificate: {'; '.join(differences)}")
    return Issued(
        chain=(pem((leaf,)), *(pem((each,)) for each in intermediates), mesh_roots),
        serial=leaf.serial_number,
        not_after=leaf.not_valid_after_utc,
        names=(str(wanted.identity),),
    )


def _differences(leaf: x509.Certificate, granted: Granted, now: datetime, limits: Limits) -> list[str]:
    found = []
    if leaf.public_key() != granted.public_key:
        found.append("it is for another key")
    if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
        found.append("it is not valid now")
    if leaf.not_valid_after_utc - now > limits.max_ttl:
        found.append(f"it is valid until {leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}, longer than the mesh allows")
    try:
        names = list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        usages = list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError) as error:
        return [*found, f"its extensions cannot be used: {error}"]
    if names != [x509.UniformResourceIdentifier(str(granted.order.identity))]:
        found.append(f"its names are {[str(name.value) for name in names]}")
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} <= set(usages):
        found.append("it is not for both clients and servers")
    if is_authority(leaf):
        found.append("it may sign certificates")
    return found


def _path_problems(
    leaf: x509.Certificate, intermediates: list[x509.Certificate], roots: tuple[x509.Certificate, ...], now: datetime
) -> list[str]:
    """Each certificate must be issued by the next, and the last by a root."""
    if len(intermediates) > MAX_CHAIN:
        return ["its chain is too long"]
    below = leaf
    for above in intermediates:
        if not is_authority(above) or not above.not_valid_before_utc <= now < above.not_valid_after_utc:
            return ["a certificate of its chain is no valid authority"]
        if not authority.issued(above, below):
            return ["its chain does not fit together"]
        below = above
    if not any(authority.issued(root, below) and now < root.not_valid_after_utc for root in roots):
        return ["it does not lead to a root of its signer"]
    return []
