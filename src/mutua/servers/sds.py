"""Secret discovery for the pod's Envoy, on a unix socket: certificate and roots, pushed when they change."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import grpc
import grpc.aio
from envoy.config.core.v3 import extension_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_spiffe_validator_config_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2

from mutua.envoy.bootstrap import CERTIFICATE_SECRET, ROOT_SECRET
from mutua.errors import NotFoundError, UnavailableError
from mutua.secret import Secret
from mutua.servers import sds_files
from mutua.system.logs import Log

SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
TYPE_URL = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
KNOWN_NAMES = (CERTIFICATE_SECRET, ROOT_SECRET)

_LOG = Log("sds")
_MAX_REQUEST_BYTES = 256 * 1024

_Context = Any  # grpc.aio.ServicerContext; its generics say nothing here


class SecretService:
    """Serves one workload's secrets to its own Envoy.

    `default` and `ROOTCA` are what was published last; a request before the first `publish` waits for it. Secrets from
    files are read when they are asked for, and again every `poll_seconds`.
    """

    def __init__(self, poll_seconds: float = 2.0) -> None:
        self._poll_seconds = poll_seconds
        self._file_names: set[str] = set()
        self._polling: asyncio.Task[None] | None = None
        self._resources: dict[str, any_pb2.Any] = {}
        self._versions: dict[str, int] = {}
        self._streams: set[_Stream] = set()
        self._acknowledged = asyncio.Event()
        self._server: grpc.aio.Server | None = None

    def publish(
        self,
        certificate_chain: bytes,
        key: Secret,
        roots: bytes,
        revoked: bytes = b"",
        trust: Mapping[str, bytes] | None = None,
    ) -> None:
        """Replace the secrets (PEM) and push those that changed to every stream that asked for them.

        `revoked`: certificate revocation lists; with them, Envoy refuses whom they name. `trust`: the roots of each
        trust domain; with them, Envoy verifies a peer by the roots of the domain in its name, and by no others.
        """
        certificate = secret_pb2.Secret(name=CERTIFICATE_SECRET)
        certificate.tls_certificate.certificate_chain.inline_bytes = certificate_chain
        certificate.tls_certificate.private_key.inline_bytes = key.reveal()
        root = secret_pb2.Secret(name=ROOT_SECRET)
        root.validation_context.trusted_ca.inline_bytes = roots
        if revoked.strip():
            root.validation_context.crl.inline_bytes = revoked
        if trust:
            root.validation_context.custom_validator_config.CopyFrom(_by_trust_domain(trust))
        for secret in (root, certificate):
            self._put(secret)
        self._wake_streams()

    async def acknowledged(self, seconds: float) -> bool:
        """Whether Envoy uses what was published last: every stream has acknowledged it within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while not self._in_force():
                    self._acknowledged.clear()
                    await self._acknowledged.wait()
        except TimeoutError:
            return False
        return True

    def _in_force(self) -> bool:
        ours = [(stream, name) for stream in self._streams for name in KNOWN_NAMES if name in stream.names]
        asked = {name for _, name in ours}
        return asked == set(KNOWN_NAMES) and all(
            stream.acknowledged.get(name) == self._versions.get(name) for stream, name in ours
        )

    async def start(self, socket: Path) -> None:
        """Listen on `socket`, for this user alone; a stale one is replaced. Raises OSError, UnavailableError."""
        server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", _MAX_REQUEST_BYTES), ("grpc.so_reuseport", 0)]
        )
        handlers = {
            "StreamSecrets": grpc.stream_stream_rpc_method_handler(
                self._stream_secrets,
                request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
                response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
            ),
            "DeltaSecrets": grpc.stream_stream_rpc_method_handler(
                self._delta_secrets,
                request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
                response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        _bind(server, socket)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """End every stream and close the socket."""
        if self._polling is not None:
            self._polling.cancel()
            self._polling = None
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def _put(self, secret: secret_pb2.Secret) -> None:
        packed = any_pb2.Any(type_url=TYPE_URL, value=secret.SerializeToString(deterministic=True))
        if self._resources.get(secret.name) != packed:
            self._resources[secret.name] = packed
            self._versions[secret.name] = self._versions.get(secret.name, 0) + 1

    def _wake_streams(self) -> None:
        for stream in self._streams:
            stream.wake.set()

    async def _admit(self, names: Iterable[str], context: _Context) -> None:
        """Let a stream have these names: read those from files, refuse the others that are not ours."""
        for name in names:
            if name in KNOWN_NAMES or name in self._file_names:
                continue
            try:
                self._put(sds_files.read(name))
            except NotFoundError as error:
                await _refuse(context, name, error)
            self._file_names.add(name)
            if self._polling is None:
                self._polling = asyncio.create_task(self._poll_files())

    async def _poll_files(self) -> None:
        """Push what changed. While a file is missing or half written, the last good content stays."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            for name in self._file_names:
                try:
                    self._put(sds_files.read(name))
                except NotFoundError as error:
                    _LOG.debug("keeping the last content", secret=name, reason=error.message)
            self._wake_streams()

    def _newer(self, names: Iterable[str], sent: Mapping[str, int]) -> list[str]:
        return [name for name in names if self._versions.get(name, 0) > sent.get(name, 0)]

    async def _stream_secrets(self, _requests: object, context: _Context) -> None:
        stream = _Stream()
        nonce = 0
        async for request in self._turns(stream, context):
            if request is not None:
                _log_rejection(request)
                if request.response_nonce not in ("", str(nonce)):
                    continue  # about an answer that a newer one has replaced
                self._take_acknowledgement(stream, request)
                await self._admit(request.resource_names, context)
                if list(request.resource_names) != list(stream.names):
                    stream.names = dict.fromkeys(request.resource_names)
                    stream.sent.clear()
            # State of the world: an answer holds everything asked for, so it waits until all of it exists.
            names = stream.names
            if names and self._newer(names, stream.sent) and all(name in self._resources for name in names):
                nonce += 1
                stream.sent = {name: self._versions[name] for name in names}
                await context.write(
                    discovery_pb2.DiscoveryResponse(
                        type_url=TYPE_URL,
                        version_info=".".join(str(stream.sent[name]) for name in names),
                        nonce=str(nonce),
                        resources=[self._resources[name] for name in names],
                    )
                )

    async def _delta_secrets(self, _requests: object, context: _Context) -> None:
        stream = _Stream()
        nonce = 0
        async for request in self._turns(stream, context):
            if request is not None:
                _log_rejection(request)
                if request.response_nonce == str(nonce):
                    self._take_acknowledgement(stream, request)
                await self._admit(request.resource_names_subscribe, context)
                for name in request.resource_names_unsubscribe:
                    stream.names.pop(name, None)
                for name in request.resource_names_subscribe:
                    stream.names[name] = None
                    stream.sent.pop(name, None)  # a repeated subscription asks for it again
            if changed := self._newer(stream.names, stream.sent):
                nonce += 1
                stream.sent |= {name: self._versions[name] for name in changed}
                resources = [
                    discovery_pb2.Resource(name=name, version=str(stream.sent[name]), resource=self._resources[name])
                    for name in changed
                ]
                await context.write(
                    discovery_pb2.DeltaDiscoveryResponse(type_url=TYPE_URL, nonce=str(nonce), resources=resources)
                )

    def _take_acknowledgement(self, stream: "_Stream", request: Any) -> None:
        """The last answer was taken, unless the request says that it was refused."""
        if request.response_nonce and not _is_rejection(request):
            stream.acknowledged = dict(stream.sent)
            self._acknowledged.set()

    async def _turns(self, stream: "_Stream", context: _Context) -> Any:
        """Each request of the stream in order, and None whenever secrets may have changed; ends with the stream."""
        self._streams.add(stream)
        reading = asyncio.ensure_future(context.read())
        waiting = asyncio.ensure_future(stream.wake.wait())
        try:
            while True:
                await asyncio.wait((reading, waiting), return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    request = reading.result()
                    if request is grpc.aio.EOF:
                        return
                    reading = asyncio.ensure_future(context.read())
                    yield request
                if waiting.done():
                    stream.wake.clear()
                    waiting = asyncio.ensure_future(stream.wake.wait())
                    yield None
        finally:
            self._streams.discard(stream)
            reading.cancel()
            waiting.cancel()


class _Stream:
    """What one stream asked for, was sent and has acknowledged, by secret's name."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.names: dict[str, None] = {}  # an ordered set
        self.sent: dict[str, int] = {}
        self.acknowledged: dict[str, int] = {}


def _by_trust_domain(trust: Mapping[str, bytes]) -> extension_pb2.TypedExtensionConfig:
    validator = tls_spiffe_validator_config_pb2.SPIFFECertValidatorConfig()
    for domain, roots in sorted(trust.items()):
        validator.trust_domains.add(name=domain).trust_bundle.inline_bytes = roots
    found = extension_pb2.TypedExtensionConfig(name="envoy.tls.cert_validator.spiffe")
    found.typed_config.Pack(validator)
    return found


def _bind(server: grpc.aio.Server, socket: Path) -> None:
    if socket.is_socket():
        socket.unlink()
    # The socket gives out a private key, so it must not exist for a moment with a wider mode.
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{socket}")
    except RuntimeError as error:
        raise UnavailableError(
            f"cannot listen on {socket}: {error}", "a socket's path has at most 107 bytes"
        ) from error
    finally:
        os.umask(before)


def _is_rejection(request: Any) -> bool:
    return bool(request.HasField("error_detail") and request.error_detail.code)


def _log_rejection(request: Any) -> None:
    if _is_rejection(request):
        # Envoy's message names the secret and what is wrong with it; it holds no key.
        _LOG.error("Envoy refused a secret", message=request.error_detail.message)


async def _refuse(context: _Context, name: str, error: NotFoundError) -> NoReturn:
    """At once, rather than letting the listener wait for a secret that will not come; Envoy asks again by itself."""
    text = error.message if sds_files.is_file_name(name) else f"no secret named {name[:200]!r} here"
    _LOG.warn("secret refused", secret=name[:200], reason=text)
    await context.abort(grpc.StatusCode.NOT_FOUND, text)
    raise AssertionError("abort returned")  # it raises always; the checker cannot know
