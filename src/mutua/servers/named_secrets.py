"""Secret discovery for proxies in the mesh: key pairs that DestinationRules name, to those who may read them.

Nothing here is shared between proxies but the secrets themselves, and those are looked up by the namespace that the
caller's certificate proves, after it was decided that its account may read them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple, Never, TypeAlias

import grpc
import grpc.aio
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError

from mutua.api import credential
from mutua.envoy import names
from mutua.errors import InvalidInputError, MutuaError, NotFoundError, RefusedError
from mutua.servers import peers
from mutua.servers.sds import SERVICE, TYPE_URL
from mutua.sources.credentials import Credentials, Followed
from mutua.spiffe import SpiffeId
from mutua.system.logs import Log
from mutua.xds.node import Node

REVIEW_SECONDS: Final = 60.0
"""How often it is asked again whether the account may read the secret that its proxy goes on using."""

_log: Final = Log("credentials")

Uses: TypeAlias = Callable[[Node, SpiffeId], frozenset[str]]
"""The secrets that a proven proxy's configuration names. Raises NotFoundError, RefusedError as its view does."""

MayRead: TypeAlias = Callable[[SpiffeId, str], Awaitable[bool]]
"""Whether an account may read a secret of its namespace. Raises MutuaError if that cannot be found out."""


class _Wanted(NamedTuple):
    """What one stream is about: `name` as it was asked for, and the secret that a rule names."""

    name: str
    secret: str

    @property
    def is_authorities(self) -> bool:
        return self.name != self.secret


Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class NamedSecretService:
    """The service. One stream is about one secret, as Envoy asks for them."""

    def __init__(
        self, uses: Uses, may_read: MayRead, secrets: Credentials, *, review_seconds: float = REVIEW_SECONDS
    ) -> None:
        self._uses = uses
        self._may_read = may_read
        self._secrets = secrets
        self._review_seconds = review_seconds

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service; before the server starts."""
        handlers = {"StreamSecrets": grpc.stream_stream_rpc_method_handler(self._stream)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def _stream(self, requests: Any, context: Context) -> None:
        identity: SpiffeId | None = None
        try:
            identity = peers.identity(context.auth_context())
            first = _parsed(await anext(aiter(requests)))
            node = peers.node(first.node.id, identity)
            wanted = _wanted(list(first.resource_names), self._uses(node, identity), identity)
            await self._review(identity, wanted.secret)
            await self._serve(wanted, identity, requests, context)
        except StopAsyncIteration:
            return
        except InvalidInputError as error:
            await _end(context, grpc.StatusCode.INVALID_ARGUMENT, error, identity)
        except (RefusedError, NotFoundError) as error:
            await _end(context, grpc.StatusCode.PERMISSION_DENIED, error, identity)
        except MutuaError as error:
            await _end(context, grpc.StatusCode.UNAVAILABLE, error, identity)
        except (grpc.aio.UsageError, grpc.aio.InternalError):
            return  # the peer is gone: there is nobody to tell

    async def _review(self, identity: SpiffeId, secret: str) -> None:
        if not await self._may_read(identity, secret):
            who = f"service account {identity.namespace}/{identity.service_account}"
            raise RefusedError(
                f"{who} may not read secret {secret!r}", "let it `get` that secret, or `list` secrets, in its namespace"
            )

    async def _serve(self, wanted: _Wanted, identity: SpiffeId, requests: Any, context: Context) -> None:
        changed = asyncio.Event()
        async with AsyncExitStack() as stack:

            async def follow(name: str, *, optional: bool) -> Followed:
                following = self._secrets.follow(identity.namespace, name, changed, optional=optional)
                return await stack.enter_async_context(following)

            sources = [await follow(wanted.secret, optional=False)]
            if wanted.is_authorities and await self._may_read(identity, wanted.name):
                sources.insert(0, await follow(wanted.name, optional=True))
            reading = asyncio.create_task(_read(requests, wanted.name))
            reviewing = asyncio.create_task(asyncio.sleep(self._review_seconds))
            changing = asyncio.create_task(changed.wait())
            try:
                sent = b""
                number = 0
                while not reading.done():
                    made = _resource(wanted, sources)
                    if made is not None and made.value != sent:
                        number, sent = number + 1, made.value
                        await context.write(_response(made, str(number)))
                    await asyncio.wait((reading, reviewing, changing), return_when=asyncio.FIRST_COMPLETED)
                    if changing.done():
                        changed.clear()
                        changing = asyncio.create_task(changed.wait())
                    if reviewing.done():
                        await self._review(identity, wanted.secret)
                        reviewing = asyncio.create_task(asyncio.sleep(self._review_seconds))
                reading.result()
            finally:
                for task in (reading, reviewing, changing):
                    task.cancel()
                await asyncio.gather(reading, reviewing, changing, return_exceptions=True)


def _wanted(resource_names: list[str], used: frozenset[str], identity: SpiffeId) -> _Wanted:
    """What is asked for, if a rule gives it. Raises InvalidInputError, RefusedError."""
    if len(resource_names) != 1:
        raise InvalidInputError("a stream of secrets is about exactly one")
    scheme, separator, name = resource_names[0].partition("://")
    # A namespace in front of the name is refused with all else that is no name: nobody asks for another's secrets.
    if f"{scheme}{separator}" != names.CREDENTIAL_SCHEME or not credential.is_name(name):
        raise InvalidInputError(f"no secret can be meant by {resource_names[0][:200]!r}")
    base = name.removesuffix(credential.AUTHORITIES_SUFFIX)
    for secret in (base, name):
        if secret in used:
            return _Wanted(name, secret)
    raise RefusedError(f"no DestinationRule gives secret {name!r} to {identity}")


def _resource(wanted: _Wanted, sources: list[Followed]) -> any_pb2.Any | None:
    """The secret as Envoy takes it; None while it is not there or cannot be used: Envoy keeps what it has, if any.

    Authorities are in the secret `NAME-cacert`, or else beside the key pair. Source: Istio's GetCaCert.
    """
    made = secret_pb2.Secret(name=f"{names.CREDENTIAL_SCHEME}{wanted.name}")
    source = next((each for each in sources if each.data is not None), None)
    if source is None or source.data is None or not all(each.is_known.is_set() for each in sources):
        return None
    try:
        if not wanted.is_authorities:
            pair = credential.key_pair(source.data)
            made.tls_certificate.certificate_chain.inline_bytes = pair.chain
            made.tls_certificate.private_key.inline_bytes = pair.key.reveal()
        else:
            found = credential.authorities(source.data)
            made.validation_context.trusted_ca.inline_bytes = found.roots
            if found.revoked:
                made.validation_context.crl.inline_bytes = found.revoked
    except InvalidInputError as error:
        _log.warn(
            "a secret cannot be given to workloads", secret=f"{source.namespace}/{source.name}", problem=error.message
        )
        return None
    return any_pb2.Any(type_url=TYPE_URL, value=made.SerializeToString(deterministic=True))


def _response(resource: any_pb2.Any, number: str) -> bytes:
    response = discovery_pb2.DiscoveryResponse(
        type_url=TYPE_URL, version_info=number, nonce=number, resources=[resource]
    )
    return bytes(response.SerializeToString())


async def _read(requests: Any, asked: str) -> None:
    """Acknowledgements and refusals until the peer ends the stream; never about another secret."""
    async for message in requests:
        request = _parsed(message)
        if list(request.resource_names) not in ([], [f"{names.CREDENTIAL_SCHEME}{asked}"]):
            raise InvalidInputError("a stream of secrets is about exactly one")
        if request.HasField("error_detail") and request.error_detail.code:
            # Envoy's message names the secret and what is wrong with it; it holds no key.
            _log.error("Envoy refused a secret", secret=asked, message=request.error_detail.message[:500])


def _parsed(message: bytes) -> Any:
    try:
        return discovery_pb2.DiscoveryRequest.FromString(message)
    except DecodeError as error:
        raise InvalidInputError("the message is not a discovery request") from error


async def _end(context: Context, code: grpc.StatusCode, error: MutuaError, identity: SpiffeId | None) -> Never:
    _log.warn("secret refused", peer=identity or context.peer(), reason=error.message, hint=error.hint)
    await context.abort(code, error.message)
    raise AssertionError("abort returned")
