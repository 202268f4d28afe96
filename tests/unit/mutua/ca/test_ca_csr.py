"""What a signing request must be before anything in it is looked at."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.certificates import signing_request
from mutua.ca import csr
from mutua.ca.errors import CsrError
from mutua.system import keys

KEY = keys.generate()
IDENTITY = "spiffe://cluster.local/ns/foo/sa/bar"
REQUEST = signing_request(KEY, [IDENTITY])


def test_a_good_request_gives_its_key_and_names() -> None:
    """The key, the names in order, and whether a common name was asked for."""
    request = csr.parse(REQUEST)

    assert KEY.public_key() == request.public_key
    assert request.names == (IDENTITY,)
    assert not request.has_common_name


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(public_exponent=65537, key_size=2048)],
    ids=["P-384", "RSA-2048"],
)
def test_keys_that_are_signed(key: keys.PrivateKey) -> None:
    """P-256 (above), P-384 and RSA from 2048 bits."""
    assert key.public_key() == csr.parse(signing_request(key)).public_key


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (rsa.generate_private_key(public_exponent=65537, key_size=1024), "1024 bits"),  # noqa: S505
        (ec.generate_private_key(ec.SECP521R1()), "secp521r1"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
    ],
    ids=["RSA-1024", "P-521", "secp256k1", "Ed25519"],
)
def test_keys_that_are_not_signed(key: keys.PrivateKey, why: str) -> None:
    """Weak or unusual keys are refused by name."""
    with pytest.raises(CsrError, match=why):
        csr.parse(signing_request(key))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a pem",
        REQUEST + REQUEST,
        REQUEST.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        REQUEST[: len(REQUEST) // 2],
        "junk\n" + REQUEST,
        "\N{SNOWMAN}" + REQUEST,
        REQUEST + " " * csr.MAX_BYTES,
        "A" * 65536,
    ],
    ids=["empty", "text", "two", "another type", "no ASN.1", "half", "junk before", "not ASCII", "too long", "64 KB"],
)
def test_texts_that_are_no_request(text: str) -> None:
    """Whatever is not exactly one small PEM request is refused."""
    with pytest.raises(CsrError):
        csr.parse(text)


def test_a_request_of_64_kilobytes_is_refused_unread() -> None:
    """A valid request with a huge extension never reaches the parser."""
    huge = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(65536))
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(huge, critical=False)
    text = builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    with pytest.raises(CsrError, match="at most"):
        csr.parse(text)


def test_names_of_unknown_kinds_are_refused() -> None:
    """OTHERNAME and directory names have been read differently by different programs."""
    other = x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")

    with pytest.raises(CsrError, match="OtherName"):
        csr.parse(signing_request(KEY, general_names=[other]))


DER = base64.b64decode("".join(REQUEST.splitlines()[1:-1]))


@given(bit=st.integers(0, len(DER) * 8 - 1))
@settings(max_examples=300, deadline=None)
def test_one_flipped_bit_never_gives_another_key_or_name(bit: int) -> None:
    """Every bit of the request is covered by its signature, or by the parser."""
    flipped = bytearray(DER)
    flipped[bit // 8] ^= 1 << bit % 8
    body = base64.encodebytes(flipped).decode()

    try:
        request = csr.parse(f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n")
    except CsrError:
        return
    assert (KEY.public_key(), (IDENTITY,)) == (request.public_key, request.names)


@given(data=st.binary(max_size=600))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_request_or_a_refusal(data: bytes) -> None:
    """Nothing but CsrError leaves the parser."""
    body = base64.encodebytes(data).decode()

    with pytest.raises(CsrError):
        csr.parse(f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n")
