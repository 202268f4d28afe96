"""mutua.v1.IdentityService: an agent says what its Envoy holds, and proves it by the certificate it says it with."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn

import grpc
import grpc.aio
import msgspec
from cryptography import x509
from google.protobuf import empty_pb2, json_format, struct_pb2

from mutua.ca import authority, caller
from mutua.ca.errors import UnknownCallerError
from mutua.errors import RefusedError
from mutua.spiffe import SpiffeId, TrustDomain
from mutua.system import clock
from mutua.system.logs import Log

SERVICE = "mutua.v1.IdentityService"
METHOD = f"/{SERVICE}/Report"
_MAX_ERROR = 500

_LOG = Log("identity")


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """The message: what only the agent knows. Times in Unix seconds."""

    pod: str
    roots: str = ""  # digest of the bundle that Envoy has acknowledged
    next_rotation: float = 0.0
    error: str = ""  # of the last attempt to renew, "" = none
    failures: int = 0  # in a row


class Report(msgspec.Struct, frozen=True):
    """One proxy's identity: what TLS proved, and what the agent added."""

    identity: str
    namespace: str
    pod: str
    serial: str
    issuer: str  # `authority.issuer_id` of the chain presented
    not_before: datetime
    not_after: datetime
    next_rotation: datetime | None
    roots: str
    error: str
    failures: int
    at: datetime


class IdentityService:
    """Takes reports on the port that demands client certificates; anywhere else they are refused."""

    def __init__(
        self,
        trust_domain: TrustDomain,
        account_of: Callable[[str, str], str | None],
        take: Callable[[Report], None],
        now: clock.Clock = clock.now,
    ) -> None:
        """`account_of(namespace, pod)`: the pod's service account, None if there is no such pod."""
        self._trust_domain = trust_domain
        self._account_of = account_of
        self._take = take
        self._now = now

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service; before the server starts."""
        handler = grpc.unary_unary_rpc_method_handler(
            self.report,
            request_deserializer=struct_pb2.Struct.FromString,
            response_serializer=empty_pb2.Empty.SerializeToString,
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Report": handler}),))

    async def report(
        self, request: struct_pb2.Struct, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> empty_pb2.Empty:
        """The one method."""
        try:
            self._take(self._read(request, context.auth_context()))
        except (UnknownCallerError, RefusedError) as error:
            await _refuse(context, grpc.StatusCode.PERMISSION_DENIED, str(error))
        except (msgspec.ValidationError, ValueError, OverflowError) as error:
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return empty_pb2.Empty()

    def _read(self, request: struct_pb2.Struct, authentication: Mapping[str, Any]) -> Report:
        presented = [bytes(pem) for pem in authentication.get("x509_pem_cert", ())]
        if not presented:
            raise UnknownCallerError("no client certificate")
        now = self._now()
        who = caller.from_certificate(presented[0], self._trust_domain, now).identity
        said = msgspec.convert(json_format.MessageToDict(request), Said, strict=False)
        self._must_be(who, said.pod)
        leaf = x509.load_pem_x509_certificate(presented[0])
        chain = b"\n".join(bytes(pem) for pem in authentication.get("x509_pem_cert_chain", ()))
        above = [each for each in x509.load_pem_x509_certificates(chain) if each != leaf] if chain.strip() else []
        return Report(
            identity=str(who),
            namespace=who.namespace,
            pod=said.pod,
            serial=f"{leaf.serial_number:x}",
            issuer=authority.issuer_id(leaf, above),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            next_rotation=datetime.fromtimestamp(said.next_rotation, now.tzinfo) if said.next_rotation else None,
            roots=said.roots,
            error=said.error[:_MAX_ERROR],
            failures=said.failures,
            at=now,
        )

    def _must_be(self, who: SpiffeId, pod: str) -> None:
        account = self._account_of(who.namespace, pod)
        if account is None:
            raise RefusedError(f"no pod {who.namespace}/{pod[:253]} is known")
        if account != who.service_account:
            raise RefusedError(f"pod {who.namespace}/{pod} runs as {account}, the certificate is {who}")


async def _refuse(context: "grpc.aio.ServicerContext[Any, Any]", code: grpc.StatusCode, reason: str) -> NoReturn:
    _LOG.debug("report refused", peer=context.peer(), reason=reason)
    await context.abort(code, reason[:200])
    raise AssertionError("abort returned")  # it raises always; the checker cannot know
