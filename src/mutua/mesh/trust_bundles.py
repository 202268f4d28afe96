"""`meshConfig.caCertificates`: whom the mesh believes besides its own authority, for which trust domains and signers.

A root vouches for the trust domains that its entry names and for no others, so that a partner's authority can never
name a workload of ours. An entry without `trustDomains` vouches for the mesh's own domain and its aliases.
Source: istio.mesh.v1alpha1.MeshConfig.CertificateData.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from mutua.api.meshconfig import CertificateData, MeshConfig
from mutua.ca import bundle
from mutua.errors import InvalidInputError
from mutua.mesh.build import trust_of
from mutua.mesh.proxy_view import Frozen
from mutua.spiffe import TrustDomain

MAX_BYTES: Final = 512 * 1024
"""Of everything together: agents get it in a config map, which holds 1 MiB, beside the mesh's own roots."""

MAX_ENTRIES: Final = 100


class TrustBundles(Frozen, frozen=True):
    """The entries' meaning; bundles are PEM, without duplicates and in an order of their own."""

    own: str = ""  # roots that vouch for the mesh's own domains, besides its authority's
    foreign: tuple[tuple[str, str], ...] = ()  # (trust domain, roots), by domain
    signers: tuple[tuple[str, str], ...] = ()  # (external signer, roots); "" = any signer that is not named
    locations: frozenset[str] = frozenset()  # SPIFFE bundle end points that are to be followed
    problems: tuple[str, ...] = ()  # entries that are not followed, and why

    def roots_of_signer(self, signer: str) -> str:
        """By what a certificate of an external signer is verified; "" = nobody said, so it cannot be."""
        return bundle.merged(roots.encode() for name, roots in self.signers if name in ("", signer))


def of_mesh(config: MeshConfig, fetched: Mapping[str, str]) -> TrustBundles:
    """Every entry that can be followed. `fetched`: roots (PEM) by `spiffeBundleUrl`, those that could be had.

    An entry with one certificate that cannot be read, or is no authority's, is left out whole. Never raises.
    """
    domains = trust_of(config).domains
    own: list[bytes] = []
    foreign: dict[str, list[bytes]] = {}
    signers: dict[str, list[bytes]] = {}
    problems: list[str] = []
    size = 0
    for index, entry in enumerate(config.ca_certificates):
        try:
            roots = _roots(entry, fetched)
            wanted = tuple(TrustDomain.parse(name).name for name in entry.trust_domains) or domains
            if size + len(roots) > MAX_BYTES or index >= MAX_ENTRIES:
                raise ValueError(f"more than {MAX_ENTRIES} entries or {MAX_BYTES} bytes in all")
            size += len(roots)
        except InvalidInputError as error:
            problems.append(f"caCertificates[{index}].trustDomains: {error.message}; the entry is not followed")
            continue
        except ValueError as error:
            problems.append(f"caCertificates[{index}]: {error}; the entry is not followed")
            continue
        if not roots:
            continue
        if set(wanted) & set(domains):
            own.append(roots)
            for signer in entry.cert_signers or ("",):
                signers.setdefault(signer, []).append(roots)
        for domain in wanted:
            if domain not in domains:
                foreign.setdefault(domain, []).append(roots)
    return TrustBundles(
        own=bundle.merged(own),
        foreign=tuple((domain, bundle.merged(roots)) for domain, roots in sorted(foreign.items())),
        signers=tuple((signer, bundle.merged(roots)) for signer, roots in sorted(signers.items())),
        locations=frozenset(_locations(config)),
        problems=tuple(problems),
    )


def _locations(config: MeshConfig) -> Iterator[str]:
    return (entry.spiffe_bundle_url for entry in config.ca_certificates if entry.spiffe_bundle_url and not entry.pem)


def _roots(entry: CertificateData, fetched: Mapping[str, str]) -> bytes:
    """The entry's roots, checked; b"" while its end point has not answered. Raises ValueError."""
    if bool(entry.pem.strip()) == bool(entry.spiffe_bundle_url):
        raise ValueError("exactly one of pem and spiffeBundleUrl is needed")
    text = entry.pem or fetched.get(entry.spiffe_bundle_url, "")
    return bundle.merged([text.encode()]).encode()
