"""Who may ask: tokens that Kubernetes vouches for, and certificates of this mesh."""

from datetime import datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fakes.certificates import NOW, vectors
from mutua.ca import caller
from mutua.ca.caller import Credential, TokenReviewStatus, TokenReviewUser
from mutua.ca.errors import UnknownCallerError
from mutua.spiffe import SpiffeId, TrustDomain
from mutua.system import keys

DOMAIN = TrustDomain("cluster.local")
KEY = keys.generate()
IDENTITY = "spiffe://cluster.local/ns/foo/sa/bar"


@pytest.mark.parametrize("row", vectors("token-review"))
def test_token_reviews_as_istio(row: dict[str, Any]) -> None:
    """Istio's own table, down to the words."""
    status = caller.token_review_status(row["status"])
    wanted = row["expect"]

    if "error" in wanted:
        with pytest.raises(UnknownCallerError) as raised:
            caller.from_token_review(status, DOMAIN)
        assert wanted["error"] in str(raised.value)
        return
    who = caller.from_token_review(status, DOMAIN)
    assert SpiffeId("cluster.local", wanted["namespace"], wanted["serviceAccount"]) == who.identity
    assert (wanted["podName"], wanted["podUID"]) == (who.pod, who.pod_uid)
    assert Credential.TOKEN is who.credential


@pytest.mark.parametrize("row", vectors("kube-jwt"))
def test_clusters_as_istio(row: dict[str, Any]) -> None:
    """A caller of this cluster is known; of remote ones there are none, so also those that Istio knows are refused."""
    claimed, local = row["metadata"]["clusterid"][0], row["localCluster"]
    if claimed == local:
        assert "error" not in row["expect"]
        caller.require_local_cluster(claimed, local)
        return
    with pytest.raises(UnknownCallerError, match=f'claims to be in cluster "{claimed}"'):
        caller.require_local_cluster(claimed, local)


def test_a_caller_of_another_cluster_is_unknown() -> None:
    """In Istio's words; there are no remote clusters here."""
    with pytest.raises(
        UnknownCallerError, match='claims to be in cluster "x", but we only know about local cluster "y"'
    ):
        caller.require_local_cluster("x", "y")


@pytest.mark.parametrize(
    "username",
    [
        "system:serviceaccount:default",
        "system:serviceaccount:default:a:b",
        "system:serviceaccount:default:",
        "system:serviceaccount::a",
        "system:node:default:a",
        "system:serviceaccount:default:a/b",
        "",
    ],
)
def test_usernames_that_are_no_service_account(username: str) -> None:
    """The group alone does not make one."""
    status = TokenReviewStatus(
        authenticated=True, user=TokenReviewUser(username=username, groups=("system:serviceaccounts",))
    )

    with pytest.raises(UnknownCallerError):
        caller.from_token_review(status, DOMAIN)


@pytest.mark.parametrize("audiences", [(), ("https://kubernetes.default.svc",), ("istio-ca2",), ("ISTIO-CA",)])
def test_a_token_for_somebody_else_is_refused(audiences: tuple[str, ...]) -> None:
    """Also where the API server confirms no audience at all."""
    with pytest.raises(UnknownCallerError, match="not for audience"):
        caller.require_audience(TokenReviewStatus(authenticated=True, audiences=audiences))


def test_a_review_in_a_strange_shape_authenticates_nobody() -> None:
    """A field of another type is no caller, and null is as absent."""
    with pytest.raises(UnknownCallerError, match="cannot be read"):
        caller.token_review_status({"authenticated": "yes"})
    assert not caller.token_review_status({"authenticated": False, "user": None}).authenticated


def client_certificate(
    names: list[x509.GeneralName],
    usages: list[x509.ObjectIdentifier] | None = None,
    *,
    is_authority: bool = False,
    expires: datetime = NOW + timedelta(hours=1),
) -> bytes:
    """A certificate in PEM, as TLS hands it over after it has verified the chain."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(expires)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    wanted = usages if usages is not None else [ExtendedKeyUsageOID.CLIENT_AUTH]
    if wanted:
        builder = builder.add_extension(x509.ExtendedKeyUsage(wanted), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


def uri(text: str) -> x509.GeneralName:
    """A URI name."""
    return x509.UniformResourceIdentifier(text)


def test_a_workloads_certificate_is_a_caller() -> None:
    """The identity, and the serial for the audit record."""
    who = caller.from_certificate(client_certificate([uri(IDENTITY)]), DOMAIN, NOW)

    assert (str(who.identity), who.credential, who.serial) == (IDENTITY, Credential.CERTIFICATE, 7)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        client_certificate([]),
        client_certificate([uri(IDENTITY), uri("spiffe://cluster.local/ns/a/sa/b")]),
        client_certificate([uri(IDENTITY), x509.DNSName("foo")]),
        client_certificate([x509.DNSName(IDENTITY)]),
        client_certificate([uri("test.identity")]),
        client_certificate([uri("spiffe://other.domain/ns/foo/sa/bar")]),
        client_certificate([uri("spiffe://cluster.local/ns/foo/sa/")]),
        client_certificate([uri("spiffe://cluster.local/ns/foo/sa/bar/x")]),
        client_certificate([uri("spiffe://cluster.local/ns/foo/sa/bar\0")]),
        client_certificate([uri("SPIFFE://cluster.local/ns/foo/sa/bar")]),
        client_certificate([uri("spiffe://cluster.local./ns/foo/sa/bar")]),
        client_certificate([uri("spiffe://cluster.local/ns/foo/sa/%62ar")]),
        client_certificate([uri(IDENTITY), x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00")]),
        client_certificate([x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00")]),
        client_certificate([x509.RFC822Name("bar@foo.cluster.local")]),
        client_certificate([x509.IPAddress(IPv4Address("10.0.0.1"))]),
        client_certificate([uri(IDENTITY)], [ExtendedKeyUsageOID.SERVER_AUTH]),
        client_certificate([uri(IDENTITY)], []),
        client_certificate([uri(IDENTITY)], is_authority=True),
        client_certificate([uri(IDENTITY)], expires=NOW),
    ],
    ids=[
        "empty",
        "no ASN.1",
        "no names",
        "two names",
        "a URI and a DNS name",
        "the id as a DNS name",
        "not SPIFFE",
        "another trust domain",
        "no account",
        "one segment too many",
        "a NUL at the end",
        "another case",
        "a dot behind the domain",
        "an escape",
        "a URI and a name of another type",
        "a name of another type",
        "an address of mail",
        "an address",
        "for servers only",
        "no usage",
        "an authority's",
        "expired since this second",
    ],
)
def test_certificates_that_prove_nothing(pem: bytes) -> None:
    """Whatever could be read in two ways is nobody."""
    with pytest.raises(UnknownCallerError):
        caller.from_certificate(pem, DOMAIN, NOW)
