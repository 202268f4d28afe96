"""Identities: trust domains and SPIFFE ids of service accounts, parsed or refused."""

import re
from collections.abc import Iterable
from typing import Final, Self

import msgspec

from mutua.errors import InvalidInputError

SCHEME: Final = "spiffe://"

# SPIFFE ID standard, sections 2.1 and 2.2: a trust domain is lower case, a path segment is not restricted to it.
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,255}")
_SERVICE_ACCOUNT_ID: Final = re.compile(
    r"spiffe://(?P<trust_domain>[a-z0-9._-]{1,255})/ns/(?P<namespace>[A-Za-z0-9._-]*)/sa/(?P<service_account>[A-Za-z0-9._-]*)"
)
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]+")
_MAX_ID_BYTES: Final = 2048  # SPIFFE ID standard, section 2.3


class TrustDomain(msgspec.Struct, frozen=True):
    """The root of a set of identities, as `cluster.local`."""

    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a trust domain as users write it; `@` counts as `.`, as in Istio.

        Raises InvalidInputError for anything that could not stand in a SPIFFE id.
        """
        name = text.replace("@", ".")
        if not _TRUST_DOMAIN.fullmatch(name):
            raise InvalidInputError(
                f"trust domain {text!r} is not valid",
                "use lower-case letters, digits, dots, dashes and underscores, for example cluster.local",
            )
        return cls(name)

    def __str__(self) -> str:
        return self.name


class SpiffeId(msgspec.Struct, frozen=True, order=True):
    """The identity of one service account: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`."""

    trust_domain: str
    namespace: str
    service_account: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an identity as it stands in a certificate; the whole text must be one id and no more.

        Namespace and account may be empty, as Istio reads them; `is_complete` says whether they are.
        Raises InvalidInputError.
        """
        found = _SERVICE_ACCOUNT_ID.fullmatch(text) if len(text) <= _MAX_ID_BYTES else None
        if found is None:
            raise InvalidInputError(
                f"{text[:200]!r} is not the SPIFFE id of a service account",
                "the form is spiffe://<trust domain>/ns/<namespace>/sa/<service account>",
            )
        return cls(found["trust_domain"], found["namespace"], found["service_account"])

    @classmethod
    def of(cls, trust_domain: TrustDomain, namespace: str, service_account: str) -> Self:
        """The identity of a service account that exists. Raises InvalidInputError if a part is empty or not a name."""
        if not namespace or not service_account:
            raise InvalidInputError(
                "namespace or service account empty for SPIFFE uri: "
                f"namespace {namespace!r}, service account {service_account!r}"
            )
        for part in (namespace, service_account):
            if not _SEGMENT.fullmatch(part):
                raise InvalidInputError(
                    f"{part!r} cannot stand in a SPIFFE id", "letters, digits, '.', '-' and '_' can"
                )
        return cls(trust_domain.name, namespace, service_account)

    @property
    def is_complete(self) -> bool:
        """Whether both namespace and service account are named; an incomplete id authenticates nobody."""
        return bool(self.namespace and self.service_account)

    def __str__(self) -> str:
        return f"{SCHEME}{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def in_trust_domains(identities: Iterable[str], trust_domains: Iterable[str]) -> frozenset[str]:
    """The identities, and each service account's twin in every trust domain. What is no such id is kept as it is."""
    domains = tuple(trust_domains)
    expanded = set[str]()
    for identity in identities:
        expanded.add(identity)
        try:
            parsed = SpiffeId.parse(identity)
        except InvalidInputError:
            continue
        expanded.update(str(SpiffeId(domain, parsed.namespace, parsed.service_account)) for domain in domains)
    return frozenset(expanded)
