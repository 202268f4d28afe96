"""Private keys: made from the kernel's randomness, never written unless asked, never printed."""

from enum import Enum

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mutua.secret import Secret

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class KeyAlgorithm(Enum):
    """What an agent or an authority may hold. ECDSA handshakes cost half of RSA-2048's."""

    P256 = "P256"
    P384 = "P384"
    RSA_2048 = "RSA-2048"
    RSA_3072 = "RSA-3072"
    RSA_4096 = "RSA-4096"


def generate(algorithm: KeyAlgorithm = KeyAlgorithm.P256) -> PrivateKey:
    """A new key. RSA takes tens to hundreds of milliseconds."""
    match algorithm:
        case KeyAlgorithm.P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyAlgorithm.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return rsa.generate_private_key(public_exponent=65537, key_size=int(algorithm.value.removeprefix("RSA-")))


def to_pem(key: PrivateKey, *, pkcs8: bool = False) -> Secret:
    """`EC PRIVATE KEY` or `RSA PRIVATE KEY`, as Istio writes them, or PKCS #8."""
    form = PrivateFormat.PKCS8 if pkcs8 else PrivateFormat.TraditionalOpenSSL
    return Secret(key.private_bytes(Encoding.PEM, form, NoEncryption()))
