"""The agent's way to a certificate: a new key, a CSR for it, and the control plane's answer, verified."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf import empty_pb2, struct_pb2

from mutua.ca import authority, bundle
from mutua.errors import InternalError, InvalidInputError, MutuaError, UnavailableError
from mutua.protos import istio_ca_pb2 as protos
from mutua.secret import Secret
from mutua.spiffe import SpiffeId
from mutua.system import clock, files, keys
from mutua.system.logs import Log

REPORT_METHOD = "/mutua.v1.IdentityService/Report"
METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
MAX_TOKEN_BYTES = 64 * 1024

RETRIES = 5
LIFE_PER_CALL = 40
SHORTEST_CALL = timedelta(seconds=0.5)
"""A call may last a fortieth of the certificate's life, but at least this, and at most the timeout of the settings."""

FIRST_BACK_OFF = timedelta(milliseconds=100)
BACK_OFF_JITTER = 0.1
RETRYABLE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
    }
)
"""Source: Istio's retry policy for CreateCertificate. A refusal is not among them."""

_CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # an application's proxy settings are not for us
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),  # a new connection each time, so that new roots count
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
)

_LOG = Log("ca-client")


@dataclass(frozen=True, slots=True)
class CaClientSettings:
    """Where to ask, as whom, and whom to believe."""

    identity: SpiffeId
    token_address: str  # host:port, server TLS and a bearer token
    renewal_address: str  # host:port, mutual TLS with the current certificate
    server_name: str  # the DNS name that the control plane's certificate must have
    token_path: Path
    root_path: Path
    ttl: timedelta
    algorithm: keys.KeyAlgorithm = keys.KeyAlgorithm.P256
    pkcs8: bool = False
    cluster_id: str = ""
    signer: str = ""  # of an external authority, "" = its default
    call_timeout: timedelta = timedelta(seconds=10)
    first_back_off: timedelta = FIRST_BACK_OFF


@dataclass(frozen=True, slots=True)
class WorkloadCertificate:
    """A key and what the mesh says about it."""

    key: Secret  # PEM
    chain: bytes = field(repr=False)  # PEM: leaf, then intermediates
    roots: bytes = field(repr=False)  # PEM
    serial: int
    issuer: str  # `authority.issuer_id` of the chain
    created: datetime  # when it was received
    expires: datetime


class IdentityStatement(NamedTuple):
    """What an agent says about itself; the certificate that it shows says the rest."""

    pod: str
    roots: str  # digest of the bundle that Envoy has acknowledged
    next_rotation: datetime
    error: str = ""
    failures: int = 0


class CaClient:
    """Asks for certificates, one at a time."""

    def __init__(self, settings: CaClientSettings, now: clock.Clock = clock.now) -> None:
        self._settings = settings
        self._now = now

    async def certificate(self, current: WorkloadCertificate | None = None, roots: bytes = b"") -> WorkloadCertificate:
        """A certificate for a key made now. While `current` is valid it proves who we are, otherwise the token does.

        `roots` (PEM) are whom to believe; without them, the file at `root_path` says.

        Every way is tried, each up to six times. Raises UnavailableError when the control plane does not answer,
        InvalidInputError when it refuses, InternalError when its answer is not what was asked for, OSError when token
        or root cannot be read.
        """
        key = keys.generate(self._settings.algorithm)
        csr = _signing_request(key, self._settings.identity)
        request = protos.IstioCertificateRequest(csr=csr, validity_duration=int(self._settings.ttl.total_seconds()))
        if self._settings.signer:
            request.metadata["CertSigner"] = self._settings.signer
        if current is not None and self._now() < current.expires:
            try:
                return self._accept(await self._call(request, current, roots), key)
            except MutuaError as error:
                # A certificate of a root that is gone fails like a dead server, so the token is tried in any case.
                _LOG.warn("renewal with the current certificate failed, trying the token", error=error.message)
        return self._accept(await self._call(request, None, roots), key)

    async def report(self, current: WorkloadCertificate, statement: IdentityStatement, roots: bytes = b"") -> None:
        """Tell the control plane what is in force here, proven by that. Raises UnavailableError, OSError."""
        message = struct_pb2.Struct()
        message.update(statement._asdict() | {"next_rotation": statement.next_rotation.timestamp()})
        async with self._channel(current, roots) as channel:
            method = channel.unary_unary(
                REPORT_METHOD,
                request_serializer=struct_pb2.Struct.SerializeToString,
                response_deserializer=empty_pb2.Empty.FromString,
            )
            try:
                await method(message, timeout=self._settings.call_timeout.total_seconds())
            except grpc.aio.AioRpcError as error:
                address = self._settings.renewal_address
                raise UnavailableError(f"report to {address}: {error.code().name}: {error.details()}") from None

    async def _call(
        self, request: protos.IstioCertificateRequest, current: WorkloadCertificate | None, roots: bytes
    ) -> Sequence[str]:
        back_off = self._settings.first_back_off.total_seconds()
        for attempt in range(RETRIES + 1):
            try:
                return await self._call_once(request, current, roots)
            except grpc.aio.AioRpcError as error:
                if error.code() not in RETRYABLE:
                    raise InvalidInputError(*self._explain(error, current)) from None
                if attempt == RETRIES:
                    raise UnavailableError(*self._explain(error, current)) from None
            await asyncio.sleep(back_off * random.uniform(1 - BACK_OFF_JITTER, 1 + BACK_OFF_JITTER))  # noqa: S311
            back_off *= 2
        raise AssertionError("the loop returns or raises")

    async def _call_once(
        self, request: protos.IstioCertificateRequest, current: WorkloadCertificate | None, roots: bytes
    ) -> Sequence[str]:
        metadata: list[tuple[str, str]] = []
        if self._settings.cluster_id:
            metadata.append(("clusterid", self._settings.cluster_id))
        if current is None:
            token = Secret(files.read_limited(self._settings.token_path, MAX_TOKEN_BYTES).strip())
            metadata.append(("authorization", f"Bearer {token.reveal().decode('ascii')}"))
        async with self._channel(current, roots) as channel:
            method = channel.unary_unary(
                METHOD,
                request_serializer=protos.IstioCertificateRequest.SerializeToString,
                response_deserializer=protos.IstioCertificateResponse.FromString,
            )
            timeout = self._timeout(current).total_seconds()
            response = await method(request, metadata=tuple(metadata), timeout=timeout)
        return tuple(response.cert_chain)

    def _timeout(self, current: WorkloadCertificate | None) -> timedelta:
        """Short-lived certificates leave less time to find out that a server is dead."""
        if current is None:
            return self._settings.call_timeout
        left = (current.expires - current.created) / LIFE_PER_CALL
        return min(self._settings.call_timeout, max(left, SHORTEST_CALL))

    @contextlib.asynccontextmanager
    async def _channel(self, current: WorkloadCertificate | None, roots: bytes) -> AsyncIterator[grpc.aio.Channel]:
        # Read each time: the kubelet replaces the file when the mesh's roots change.
        roots = roots or files.read_limited(self._settings.root_path, bundle.MAX_BYTES)
        if current is None:
            address, credentials = self._settings.token_address, grpc.ssl_channel_credentials(roots)
        else:
            address = self._settings.renewal_address
            credentials = grpc.ssl_channel_credentials(roots, current.key.reveal(), current.chain)
        options = (*_CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", self._settings.server_name))
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            yield channel

    def _explain(self, error: grpc.aio.AioRpcError, current: WorkloadCertificate | None) -> tuple[str, str]:
        address = self._settings.token_address if current is None else self._settings.renewal_address
        proof = "token" if current is None else "current certificate"
        message = f"no certificate from {address} by {proof}: {error.code().name}: {error.details()}"
        hints = {
            grpc.StatusCode.UNAVAILABLE: "is the control plane running? kubectl get pods -n istio-system",
            grpc.StatusCode.UNAUTHENTICATED: f"the token at {self._settings.token_path} was not accepted; "
            "does the pod still exist, and is the token's audience istio-ca?",
            grpc.StatusCode.INVALID_ARGUMENT: "the control plane's log has the reason: "
            "kubectl logs -n istio-system deploy/istiod",
        }
        return message, hints.get(error.code(), "")

    def _accept(self, cert_chain: Sequence[str], key: keys.PrivateKey) -> WorkloadCertificate:
        """Check the answer before Envoy gets it: our key, our name, valid now, and signed under the roots it brings."""
        if len(cert_chain) <= 1:
            raise InternalError("the control plane's answer has an invalid empty CertChain")
        *parts, roots_pem = (part.encode() for part in cert_chain)
        try:
            chain = [bundle.certificates(part)[0] for part in parts]
            roots = bundle.certificates(roots_pem)
            names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            identities = names.get_values_for_type(x509.UniformResourceIdentifier)
        except (ValueError, x509.ExtensionNotFound) as error:
            raise InternalError(f"the control plane's answer cannot be read: {error}") from error
        received = self._now()
        if chain[0].public_key() != key.public_key():
            raise InternalError("the control plane answered with a certificate for another key")
        if identities != [str(self._settings.identity)]:
            raise InternalError(f"the control plane answered with a certificate for {identities}")
        if received >= chain[0].not_valid_after_utc:
            raise InternalError("the control plane answered with an expired certificate", "compare the clocks")
        if not authority.leads_to(roots, chain):
            raise InternalError("the certificate is not signed under the roots that came with it")
        return WorkloadCertificate(
            key=keys.to_pem(key, pkcs8=self._settings.pkcs8),
            chain=b"".join(parts),
            roots=roots_pem,
            serial=chain[0].serial_number,
            issuer=authority.issuer_id(chain[0], chain[1:]),
            created=received,
            expires=chain[0].not_valid_after_utc,
        )


def _signing_request(key: keys.PrivateKey, identity: SpiffeId) -> str:
    builder = x509.CertificateSigningRequestBuilder(
        x509.Name([]),
        [x509.Extension(x509.SubjectAlternativeName.oid, True, _names(identity))],
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode("ascii")


def _names(identity: SpiffeId) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])


def endless_back_off(failures: int, *, longest: timedelta = timedelta(seconds=4)) -> timedelta:
    """How long to wait after the n-th failed round, for as long as it takes: doubling, capped, spread by a quarter.

    The cap keeps every renewal within five seconds of the control plane's return; the spread keeps them apart.
    """
    base = min(FIRST_BACK_OFF.total_seconds() * 2 ** min(failures, 10), longest.total_seconds())
    return timedelta(seconds=base * random.uniform(0.75, 1.25))  # noqa: S311 - spread, not secrecy
