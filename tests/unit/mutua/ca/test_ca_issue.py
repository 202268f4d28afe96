"""From request to chain: what is in a certificate, and what never is."""

from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fakes.certificates import NOW, issued_authority, root_authority, signing_request, vectors
from mutua.ca import check, issue, policy, template
from mutua.ca.authority import Authority, der
from mutua.ca.caller import Caller, Credential
from mutua.ca.errors import AuthorityError, CsrError, IssueError, SignedWrongError, TtlError
from mutua.ca.limits import Limits
from mutua.ca.template import key_usage
from mutua.spiffe import SpiffeId
from mutua.system import keys

IDENTITY = SpiffeId("cluster.local", "foo", "bar")
CALLER = Caller(IDENTITY, Credential.TOKEN)
AUTHORITY = root_authority()
KEY = keys.generate()
SERIAL = 0x1234

AS_ISTIO = Limits(refuses_foreign_names=False)


def leaf_of(issued: issue.Issued) -> x509.Certificate:
    """The first certificate of an answer."""
    return x509.load_pem_x509_certificate(issued.chain[0].encode())


def names_of(certificate: x509.Certificate) -> list[str]:
    """The subjectAltNames as text."""
    return [
        str(name.value) for name in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    ]


def test_a_workload_certificate_field_by_field() -> None:
    """Each field as Istio sets it."""
    issued = issue.certificate(signing_request(KEY, [str(IDENTITY)]), CALLER, AUTHORITY, NOW, SERIAL)
    leaf = leaf_of(issued)
    extensions = leaf.extensions

    assert SERIAL == leaf.serial_number == issued.serial
    assert NOW - timedelta(minutes=2) == leaf.not_valid_before_utc
    assert NOW + timedelta(hours=24) == leaf.not_valid_after_utc == issued.not_after
    assert x509.Name([]) == leaf.subject
    assert AUTHORITY.certificate.subject == leaf.issuer
    assert KEY.public_key() == leaf.public_key()
    assert [str(IDENTITY)] == names_of(leaf)
    assert extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (
        usage.digital_signature,
        usage.key_encipherment,
        usage.key_cert_sign,
        usage.crl_sign,
    ) == (True, True, False, False)
    assert {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} == set(
        extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    )
    assert len(issued.chain) == 2
    assert AUTHORITY.root_bundle == issued.chain[-1]


@pytest.mark.parametrize("row", vectors("sign-csr"))
def test_signing_as_istio(row: dict[str, Any]) -> None:
    """Istio's own tables, but that nothing signed is an authority's, and that RSA keys have 2048 bits."""
    wanted = row["expect"]
    asked = row.get("csr", {})
    key = keys.generate(keys.KeyAlgorithm.RSA_2048 if "rsa" in asked.get("key", "") else keys.KeyAlgorithm.P256)
    names = [name for name in (asked.get("san_host"), *asked.get("dns_names", ())) if name]
    extensions = [x509.BasicConstraints(ca=True, path_length=None), key_usage(signs=True)] if row.get("for_ca") else []
    request = signing_request(key, names, common_name=asked.get("cn", ""), organization="MyOrg", extensions=extensions)
    authority = root_authority(ttl=timedelta(seconds=row.get("signer_ttl_s", 3650 * 86400)))
    ttl = timedelta(seconds=row["requested_ttl_s"])
    limits = Limits(max_ttl=timedelta(seconds=row.get("max_ttl_s", 90 * 86400)), refuses_foreign_names=False)
    identities = row.get("subject_ids", [str(IDENTITY)])
    if len(identities) > 1 or not identities[0].endswith("/sa/bar"):
        signed = template.leaf(
            tuple(identities), key.public_key(), ttl, now=NOW, serial=SERIAL,
            signer_expires=authority.certificate.not_valid_after_utc,
        )  # fmt: skip
        leaf = check.leaf(der(authority.sign(signed)), signed, authority.certificate)
    else:
        caller = Caller(SpiffeId.parse(identities[0]), Credential.TOKEN)
        if "error" in wanted:
            with pytest.raises(IssueError) as raised:
                issue.certificate(request, caller, authority, NOW, SERIAL, ttl, limits)
            assert wanted["error"] in str(raised.value)
            return
        leaf = leaf_of(issue.certificate(request, caller, authority, NOW, SERIAL, ttl, limits))

    assert wanted.get("san_ids", identities) == names_of(leaf)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert not leaf.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    if "not_after_minus_not_before_minus_120s" in wanted:
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc - timedelta(seconds=120)
        assert timedelta(seconds=wanted["not_after_minus_not_before_minus_120s"]) == life
    if "not_after_s_from_now" in wanted:
        assert timedelta(seconds=wanted["not_after_s_from_now"]) == leaf.not_valid_after_utc - NOW


@pytest.mark.parametrize("row", vectors("gen-key-cert"))
def test_server_certificates_as_istio(row: dict[str, Any]) -> None:
    """The control plane's own certificate brings its whole chain."""
    authority = issued_authority(depth=2, rsa_key="RSA" in row["signer"])

    issued = issue.server_certificate(
        tuple(row["hosts"]), KEY.public_key(), authority, NOW, SERIAL, timedelta(seconds=row["ttl_s"])
    )

    assert row["expect"]["certs_in_pem"] == sum(part.count("BEGIN CERTIFICATE") for part in issued.chain[:-1])
    assert row["hosts"] == names_of(leaf_of(issued))


def test_the_chain_reaches_the_root() -> None:
    """Each certificate is signed by the next one, up to the root, over two intermediates."""
    authority = issued_authority(depth=2)
    issued = issue.certificate(signing_request(KEY), CALLER, authority, NOW, SERIAL)
    chain = [x509.load_pem_x509_certificate(part.encode()) for part in issued.chain[:-1]]
    usages = chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    chain[0].verify_directly_issued_by(chain[1])
    chain[1].verify_directly_issued_by(chain[2])
    chain[2].verify_directly_issued_by(authority.roots[0])

    assert len(chain) == 3
    assert ExtendedKeyUsageOID.CLIENT_AUTH in usages


FORGED = {
    "another identity": signing_request(KEY, ["spiffe://cluster.local/ns/kube-system/sa/admin"]),
    "one more identity": signing_request(KEY, [str(IDENTITY), "spiffe://cluster.local/ns/kube-system/sa/admin"]),
    "a DNS name": signing_request(KEY, ["istiod.istio-system.svc"]),
    "an address": signing_request(KEY, general_names=[x509.IPAddress(IPv4Address("10.0.0.1"))]),
    "another case": signing_request(KEY, ["SPIFFE://cluster.local/ns/foo/sa/bar"]),
    "an escape": signing_request(KEY, ["spiffe://cluster.local/ns/foo/sa/%62ar"]),
    "a NUL": signing_request(KEY, ["spiffe://cluster.local/ns/foo/sa/bar\0.evil"]),
}


@pytest.mark.parametrize("request_pem", FORGED.values(), ids=FORGED.keys())
def test_a_request_for_another_name_is_refused(request_pem: str) -> None:
    """Only the caller's own identity, letter by letter, or none."""
    with pytest.raises(CsrError, match="but the caller is"):
        issue.certificate(request_pem, CALLER, AUTHORITY, NOW, SERIAL)


@pytest.mark.parametrize("request_pem", FORGED.values(), ids=FORGED.keys())
def test_a_forged_name_is_never_signed_even_where_it_is_ignored(request_pem: str) -> None:
    """With Istio's rule the certificate has the caller's identity alone."""
    issued = issue.certificate(request_pem, CALLER, AUTHORITY, NOW, SERIAL, limits=AS_ISTIO)

    assert [str(IDENTITY)] == names_of(leaf_of(issued))


def test_nothing_else_of_a_forged_request_is_signed() -> None:
    """CA:TRUE, code signing, key usages, policies, an organisation and a common name: all stay outside."""
    request = signing_request(
        KEY,
        common_name="admin",
        organization="system:masters",
        extensions=[
            x509.BasicConstraints(ca=True, path_length=None),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
            template.key_usage(signs=True),
            x509.NameConstraints(permitted_subtrees=[x509.DNSName("evil")], excluded_subtrees=None),
        ],
    )

    leaf = leaf_of(issue.certificate(request, CALLER, AUTHORITY, NOW, SERIAL))

    plain = leaf_of(issue.certificate(signing_request(KEY), CALLER, AUTHORITY, NOW, SERIAL))
    assert [extension.value for extension in plain.extensions] == [extension.value for extension in leaf.extensions]
    # The common name repeats the identity, because the request had one; its text is not taken over.
    assert [str(IDENTITY)] == [attribute.value for attribute in leaf.subject]


def test_a_common_name_that_is_too_long_is_left_out() -> None:
    """RFC 5280 allows 64 characters."""
    caller = Caller(SpiffeId("cluster.local", "n" * 40, "bar"), Credential.TOKEN)

    leaf = leaf_of(issue.certificate(signing_request(KEY, common_name="x"), caller, AUTHORITY, NOW, SERIAL))

    assert x509.Name([]) == leaf.subject


def test_a_lifetime_over_the_maximum_is_refused_not_cut() -> None:
    """The text is Istio's, so that people find it."""
    with pytest.raises(TtlError, match="requested TTL 2161h0m0s is greater than the max allowed TTL 2160h0m0s"):
        issue.certificate(signing_request(KEY), CALLER, AUTHORITY, NOW, SERIAL, timedelta(hours=2161))


@pytest.mark.parametrize("seconds", [0, -1, -(10**9)])
def test_no_lifetime_asks_for_the_default(seconds: int) -> None:
    """Zero and less mean: as you like."""
    issued = issue.certificate(signing_request(KEY), CALLER, AUTHORITY, NOW, SERIAL, timedelta(seconds=seconds))

    assert NOW + Limits().default_ttl == issued.not_after


def test_a_certificate_never_outlives_its_signer() -> None:
    """It is cut to the signer's end, and an expired signer signs nothing."""
    authority = root_authority(ttl=timedelta(hours=1))

    assert authority.certificate.not_valid_after_utc == (
        issue.certificate(signing_request(KEY), CALLER, authority, NOW, SERIAL).not_after
    )
    with pytest.raises(AuthorityError, match="signing certificate has expired at 2024-01-01T01:00:00Z"):
        issue.certificate(signing_request(KEY), CALLER, authority, NOW + timedelta(hours=1), SERIAL)


def test_without_an_authority_nothing_is_issued() -> None:
    """At start, before the root is there."""
    with pytest.raises(AuthorityError, match="not ready"):
        issue.certificate(signing_request(KEY), CALLER, None, NOW, SERIAL)


def test_durations_read_as_in_go() -> None:
    """Hours, minutes and seconds, from the first that is not zero."""
    seconds = (0, 59, 60, 3600, 3661, 90 * 86400)

    assert [policy.go_duration(timedelta(seconds=value)) for value in seconds] == [
        "0s",
        "59s",
        "1m0s",
        "1h0m0s",
        "1h1m1s",
        "2160h0m0s",
    ]


def _template(**changes: Any) -> template.Template:
    fields = {
        "names": (str(IDENTITY),),
        "common_name": "",
        "public_key": KEY.public_key(),
        "serial": SERIAL,
        "not_before": NOW - timedelta(minutes=2),
        "not_after": NOW + timedelta(hours=1),
        "usage": template.Usage.WORKLOAD,
    }
    return template.Template(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"names": ("spiffe://cluster.local/ns/foo/sa/admin",)}, "2.5.29.17"),
        ({"names": (str(IDENTITY), "evil")}, "2.5.29.17"),
        ({"common_name": "admin"}, "subject"),
        ({"public_key": keys.generate().public_key()}, "public key"),
        ({"serial": 1}, "serial"),
        ({"not_before": NOW - timedelta(days=1)}, "notBefore"),
        ({"not_after": NOW + timedelta(days=1)}, "notAfter"),
        ({"usage": template.Usage.SERVER}, "2.5.29.37"),
    ],
)
def test_a_signer_that_signs_something_else_is_caught(changes: dict[str, Any], difference: str) -> None:
    """The last look compares every field with the grant."""
    signed = der(AUTHORITY.sign(_template(**changes)))

    with pytest.raises(SignedWrongError, match=difference):
        check.leaf(signed, _template(), AUTHORITY.certificate)


def test_an_extra_extension_or_another_signer_is_caught() -> None:
    """A certificate with more rights, or of a key that is not ours, does not leave."""
    granted = _template()
    other = root_authority()
    with pytest.raises(SignedWrongError, match="signature"):
        check.leaf(der(other.sign(granted)), granted, AUTHORITY.certificate)

    built = x509.CertificateBuilder(
        issuer_name=AUTHORITY.certificate.subject,
        subject_name=x509.Name([]),
        public_key=KEY.public_key(),
        serial_number=SERIAL,
        not_valid_before=granted.not_before,
        not_valid_after=granted.not_after,
    ).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    assert isinstance(AUTHORITY.key, ec.EllipticCurvePrivateKey)
    with pytest.raises(SignedWrongError, match=r"2\.5\.29\.19"):
        check.leaf(der(built.sign(AUTHORITY.key, hashes.SHA256())), granted, AUTHORITY.certificate)


def test_a_template_beyond_its_signer_is_caught() -> None:
    """Also when template and certificate agree."""
    granted = _template(not_after=AUTHORITY.certificate.not_valid_after_utc + timedelta(days=1))

    with pytest.raises(SignedWrongError, match="notAfter"):
        check.leaf(der(AUTHORITY.sign(granted)), granted, AUTHORITY.certificate)


def test_an_authority_prints_no_key() -> None:
    """Neither repr nor str show it."""
    assert "key" not in repr(AUTHORITY)
    assert isinstance(AUTHORITY, Authority)
