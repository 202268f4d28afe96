"""Sets of roots, and the parts of a plugged-in authority."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from fakes.certificates import NOW, issued_authority, root_authority, signing_request, vectors
from mutua.ca import authority, bundle, issue, self_signed
from mutua.ca.bundle import BundleFormat
from mutua.ca.caller import Caller, Credential
from mutua.ca.errors import AuthorityError
from mutua.secret import Secret
from mutua.spiffe import SpiffeId
from mutua.system import keys

A = root_authority()
NAMED = (
    {"A": A.root_bundle}
    | {letter: root_authority().root_bundle for letter in "BC"}
    | {
        "ROOT": root_authority().root_bundle,
        "INT": root_authority().root_bundle,
        "BAD": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }
)


def pem_of(names: list[str] | str) -> bytes:
    """The named certificates in order; a text that is no list stands for itself."""
    return (names if isinstance(names, str) else "".join(NAMED[name] for name in names)).encode()


@pytest.mark.parametrize("row", vectors("root-bundle-update-allowed"))
def test_changes_of_roots(row: dict[str, Any]) -> None:
    """Istio ignores a change unless one set holds the other. Here any other set is led over, with both trusted."""

    def loaded(names: list[str] | str) -> authority.Authority:
        return authority.load(A.root_bundle.encode(), keys.to_pem(A.key), pem_of(names), b"", NOW)

    if unusable := [names for names in (row["current"], row["new"]) if isinstance(names, str) or not names]:
        with pytest.raises(AuthorityError, match="cannot be read"):
            loaded(unusable[0])
        assert not row["expect"]["subset_relation"]
        return
    # A rollover begins where the ids differ.
    same = set(row["current"]) == set(row["new"])
    assert (loaded(row["current"]).id == loaded(row["new"]).id) is same
    assert row["expect"]["subset_relation"]


@pytest.mark.parametrize("row", vectors("ca-bundle"))
def test_plugged_in_files_as_istio(row: dict[str, Any]) -> None:
    """All of them, or it is incomplete, or there are none."""
    found = bundle.detect_format(row["files"])

    assert row["expect"]["exists"] == (found is not BundleFormat.NONE)
    assert row["expect"]["complete"] == (found in (BundleFormat.ISTIO, BundleFormat.TLS_SECRET))


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["tls.crt", "tls.key", "ca.crt"], BundleFormat.TLS_SECRET),
        (["tls.crt", "ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"], BundleFormat.INCOMPLETE),
        (["ca-cert.pem"], BundleFormat.INCOMPLETE),
        (["ca.crt"], BundleFormat.NONE),
    ],
)
def test_two_formats(files: list[str], found: BundleFormat) -> None:
    """A `tls.crt` decides for the format of TLS secrets."""
    assert found is bundle.detect_format(files)


@pytest.mark.parametrize("row", vectors("trust-bundle-sequence"))
def test_the_union_of_sources_as_istio(row: dict[str, Any]) -> None:
    """Each source replaces its own roots; a source with one bad certificate changes nothing."""
    sources: dict[str, bytes] = {}
    for step in row["steps"]:
        changed = sources | {step["source"]: pem_of(step["certs"])}
        if step.get("expect_error"):
            with pytest.raises(ValueError):
                bundle.merged(changed.values())
        else:
            sources = changed
        names = ["INT", "ROOT"] if step["expect"] == "sorted([INT,ROOT])" else step["expect"]
        assert "".join(sorted(NAMED[name] for name in names)) == bundle.merged(sources.values())


def test_a_leaf_is_no_root() -> None:
    """Believing a leaf would let its holder sign for nobody, but it shows that files were mixed up."""
    issued = issue.certificate(
        signing_request(keys.generate()), Caller(SpiffeId("a", "b", "c"), Credential.TOKEN), root_authority(), NOW, 1
    )

    with pytest.raises(ValueError, match="not a CA certificate"):
        bundle.merged([issued.chain[0].encode()])


def test_a_self_signed_root_as_istio() -> None:
    """Signs certificates and nothing else, for ten years, named by the trust domain."""
    root = root_authority().certificate
    usage = root.extensions.get_extension_for_class(x509.KeyUsage).value

    assert (NOW, NOW + timedelta(days=3650)) == (root.not_valid_before_utc, root.not_valid_after_utc)
    assert "O=cluster.local" == root.subject.rfc4514_string() == root.issuer.rfc4514_string()
    assert (usage.key_cert_sign, usage.digital_signature, usage.crl_sign) == (True, False, False)
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    root.verify_directly_issued_by(root)


def test_a_renewed_root_verifies_the_leaves_of_the_old_one() -> None:
    """The key and the name stay, so nothing breaks while both are around."""
    key = keys.generate()
    old = self_signed.authority(key, "x" * 100, NOW, 1)
    new = self_signed.authority(key, "x" * 100, NOW + timedelta(days=3000), 2)
    caller = Caller(SpiffeId("a", "b", "c"), Credential.TOKEN)

    leaf = issue.certificate(signing_request(keys.generate()), caller, old, NOW, 3).chain[0]

    x509.load_pem_x509_certificate(leaf.encode()).verify_directly_issued_by(new.certificate)


def parts_of(source: authority.Authority) -> dict[str, Any]:
    """What `authority.load` takes."""
    return {
        "certificate_pem": bundle.pem([source.certificate]).encode(),
        "key_pem": keys.to_pem(source.key),
        "roots_pem": source.root_bundle.encode(),
        "chain_pem": bundle.pem(source.chain).encode(),
        "now": NOW,
    }


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_authority_is_read_back(depth: int) -> None:
    """From PEM, at any depth; a self-signed one has no chain."""
    source = issued_authority(depth)

    loaded = authority.load(**parts_of(source))

    assert depth == len(loaded.chain)
    assert source.certificate == loaded.certificate


OTHER = issued_authority(1)
LEAF = issue.certificate(
    signing_request(OTHER.key), Caller(SpiffeId("a", "b", "c"), Credential.TOKEN), OTHER, NOW, 5
).chain[0]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"key_pem": keys.to_pem(keys.generate())}, "the cert does not match the key"),
        ({"certificate_pem": LEAF.encode(), "key_pem": keys.to_pem(OTHER.key)}, "not authorized to sign"),
        ({"roots_pem": root_authority().root_bundle.encode()}, "no chain to a root"),
        ({"certificate_pem": b""}, "cannot be read"),
        ({"roots_pem": b"x"}, "cannot be read"),
        (
            {"key_pem": Secret(b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n")},
            "cannot be read",
        ),
        ({"now": NOW + timedelta(days=4000)}, "has expired"),
    ],
)
def test_parts_that_do_not_fit(changes: dict[str, Any], why: str) -> None:
    """The control plane does not start with an authority whose certificates nobody would believe."""
    with pytest.raises(AuthorityError, match=why):
        authority.load(**(parts_of(issued_authority(2)) | changes))
