"""Forged, broken and oversized signing requests over the wire: none gives more than its sender may have."""

import random
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fakes.certificates import signing_request
from fakes.mesh_control_plane import NAME, ControlPlane
from mutua.protos import istio_ca_pb2 as protos
from mutua.system import keys
from mutua.system.ca_client import METHOD

OURS = "spiffe://cluster.local/ns/shop/sa/web"
FLIPS = 300


async def ask(channel: grpc.aio.Channel, csr: str) -> tuple[str, ...] | grpc.StatusCode:
    """The chain, or the refusal's code."""
    method = channel.unary_unary(
        METHOD, protos.IstioCertificateRequest.SerializeToString, protos.IstioCertificateResponse.FromString
    )
    metadata = (("authorization", "Bearer good"),)
    try:
        answer = await method(protos.IstioCertificateRequest(csr=csr), metadata=metadata, timeout=5)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return tuple(answer.cert_chain)


def open_channel(control_plane: ControlPlane) -> Any:
    control_plane.review.allow("good", "shop", "web")
    credentials = grpc.ssl_channel_credentials(control_plane.roots)
    options = (("grpc.ssl_target_name_override", NAME),)
    return grpc.aio.secure_channel(f"127.0.0.1:{control_plane.token_port}", credentials, options=options)


def harmless(chain: tuple[str, ...]) -> bool:
    """The caller's own name and nothing more, and no right to sign."""
    leaf = x509.load_pem_x509_certificate(chain[0].encode())
    names = list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    return names == [x509.UniformResourceIdentifier(OURS)] and not (
        leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        or leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    )


async def test_every_flipped_bit(control_plane: ControlPlane) -> None:
    """One bit of a good request is changed: it is refused, or what is signed is still harmless."""
    good = signing_request(keys.generate(), [OURS])
    drawn = random.Random(4)  # noqa: S311 - repeatable, not secret
    async with open_channel(control_plane) as channel:
        for _ in range(FLIPS):
            spoiled = bytearray(good.encode())
            place = drawn.randrange(len(spoiled))
            spoiled[place] ^= 1 << drawn.randrange(7)
            answer = await ask(channel, spoiled.decode("ascii"))
            assert isinstance(answer, grpc.StatusCode) or harmless(answer), bytes(spoiled)
        assert not isinstance(await ask(channel, good), grpc.StatusCode)


async def test_what_nobody_may_have(control_plane: ControlPlane) -> None:
    """Other names, other kinds of names, rights of an authority, other usages, 64 KB, a request without end."""
    key = keys.generate()
    authority = x509.BasicConstraints(ca=True, path_length=None)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    forged = {
        "another": signing_request(key, ["spiffe://cluster.local/ns/shop/sa/admin"]),
        "two": signing_request(key, [OURS, "spiffe://cluster.local/ns/shop/sa/admin"]),
        "dns": signing_request(key, ["istiod.istio-system.svc"]),
        "case": signing_request(key, [OURS.upper()]),
        "percent": signing_request(key, ["spiffe://cluster.local/ns/shop/sa/w%65b"]),
        "slash": signing_request(key, [OURS + "/"]),
        "domain": signing_request(key, ["spiffe://other.local/ns/shop/sa/web"]),
        "authority": signing_request(key, [OURS], extensions=[authority]),
        "usage": signing_request(key, [OURS], extensions=[usage]),
        "common name": signing_request(key, [OURS], common_name="istiod.istio-system.svc"),
        "organization": signing_request(key, [OURS], organization="system:masters"),
        "long": signing_request(key, [OURS], organization="x" * 64) + "A" * 65536,
        "endless": "-----BEGIN CERTIFICATE REQUEST-----\n" + "A" * 65536,
        "empty": "",
    }
    async with open_channel(control_plane) as channel:
        for name, csr in forged.items():
            answer = await ask(channel, csr)
            assert isinstance(answer, grpc.StatusCode) or harmless(answer), name
            if not isinstance(answer, grpc.StatusCode):
                leaf = x509.load_pem_x509_certificate(answer[0].encode())
                usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
                assert ExtendedKeyUsageOID.CODE_SIGNING not in usages
                assert "system:masters" not in leaf.subject.rfc4514_string()
                assert "istiod" not in leaf.subject.rfc4514_string()
