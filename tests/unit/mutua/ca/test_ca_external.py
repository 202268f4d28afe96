"""Certificates that somebody else signs: what is ordered, and that no answer but the ordered one is taken."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fakes.certificates import NOW, issued_authority, root_authority, signing_request
from mutua.ca import external
from mutua.ca.authority import Authority
from mutua.ca.bundle import pem
from mutua.ca.caller import Caller, Credential
from mutua.ca.errors import AuthorityError, CsrError, SignedWrongError, TtlError
from mutua.ca.external import Granted
from mutua.ca.limits import Limits
from mutua.spiffe import SpiffeId
from mutua.system import keys

WEB = SpiffeId("cluster.local", "shop", "web")
CALLER = Caller(WEB, Credential.TOKEN)
KEY = keys.generate()
LIMITS = Limits()
EXTERNAL = issued_authority(2)
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def ordered(csr: str = "", ttl: timedelta = timedelta(hours=1), limits: Limits = LIMITS) -> Granted:
    return external.order(csr or signing_request(KEY, [str(WEB)]), CALLER, ttl, limits, "example.com/mesh")


def signed(
    authority: Authority = EXTERNAL,
    *,
    names: tuple[x509.GeneralName, ...] = (x509.UniformResourceIdentifier(str(WEB)),),
    key: keys.PrivateKey = KEY,
    usages: tuple[x509.ObjectIdentifier, ...] = BOTH,
    is_authority: bool = False,
    ttl: timedelta = timedelta(hours=1),
    begins: timedelta = timedelta(minutes=-5),
) -> bytes:
    """A chain as a signer gives it: another form than ours (no critical SAN), and whatever a test changes."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + begins)
        .not_valid_after(NOW + ttl)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    from cryptography.hazmat.primitives import hashes

    return pem([builder.sign(authority.key, hashes.SHA256()), *authority.chain]).encode()


def accepted(chain: bytes, roots: str = EXTERNAL.root_bundle, limits: Limits = LIMITS) -> Any:
    return external.accept(chain, ordered(limits=limits), roots, "the mesh's roots", NOW, limits)


def test_what_was_ordered_is_taken() -> None:
    """Leaf, intermediates, and the mesh's roots in one piece at the end; the signer's own root is not repeated."""
    issued = accepted(signed() + EXTERNAL.root_bundle.encode())
    assert len(issued.chain) == 4
    assert issued.chain[-1] == "the mesh's roots"
    assert issued.names == (str(WEB),)
    assert issued.not_after == NOW + timedelta(hours=1)


def test_the_order_names_the_proven_caller() -> None:
    order = ordered().order
    assert (order.identity, order.signer, order.ttl) == (WEB, "example.com/mesh", timedelta(hours=1))


@pytest.mark.parametrize(
    "csr",
    [
        signing_request(KEY),
        signing_request(KEY, [str(WEB), str(WEB)]),
        signing_request(KEY, ["spiffe://cluster.local/ns/shop/sa/admin"]),
        signing_request(KEY, [str(WEB)], common_name="web"),
        signing_request(KEY, [str(WEB), "web.shop"]),
    ],
    ids=["no name", "twice", "another", "common name", "a DNS name besides"],
)
def test_a_request_that_says_anything_else_is_never_sent(csr: str) -> None:
    with pytest.raises(CsrError):
        ordered(csr)


def test_the_mesh_s_longest_lifetime_holds() -> None:
    with pytest.raises(TtlError):
        ordered(ttl=timedelta(days=91))
    with pytest.raises(SignedWrongError, match="longer than the mesh allows"):
        accepted(signed(ttl=timedelta(days=91)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": keys.generate()}, "another key"),
        ({"names": (x509.UniformResourceIdentifier("spiffe://cluster.local/ns/shop/sa/admin"),)}, "its names are"),
        ({"names": (x509.UniformResourceIdentifier(str(WEB)), x509.DNSName("istiod.istio-system.svc"))}, "names are"),
        ({"names": (x509.DNSName(str(WEB)),)}, "its names are"),
        ({"names": ()}, "extensions cannot be used"),
        ({"usages": BOTH[:1]}, "not for both clients and servers"),
        ({"is_authority": True}, "may sign certificates"),
        ({"ttl": timedelta(minutes=-1)}, "not valid now"),
        ({"begins": timedelta(minutes=1)}, "not valid now"),
        ({"authority": root_authority()}, "does not lead to a root"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_another_answer_never_leaves(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SignedWrongError, match=reason):
        accepted(signed(**changes))


@pytest.mark.parametrize("chain", [b"", b"nonsense", EXTERNAL.root_bundle.encode()[:200]])
def test_rubbish_is_no_answer(chain: bytes) -> None:
    with pytest.raises(SignedWrongError, match="cannot be read"):
        accepted(chain)


def test_a_chain_with_a_hole_or_in_another_order() -> None:
    leaf, first, second = signed().decode().split("-----END CERTIFICATE-----\n")[:3]
    end = "-----END CERTIFICATE-----\n"
    with pytest.raises(SignedWrongError, match="does not fit together"):
        accepted((leaf + end + second + end).encode())
    with pytest.raises(SignedWrongError, match="does not fit together"):
        accepted((leaf + end + second + end + first + end).encode())


def test_without_known_roots_nothing_is_believed() -> None:
    with pytest.raises(AuthorityError, match="no roots are known"):
        accepted(signed(), roots="")
