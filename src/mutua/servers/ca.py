"""istio.v1.auth.IstioCertificateService: a proven caller and a CSR in, a chain out."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from cryptography import x509

from mutua.ca import caller as callers
from mutua.ca import issue
from mutua.ca.authority import Authority
from mutua.ca.caller import Caller, TokenReviewStatus
from mutua.ca.errors import AuthorityError, CsrError, IssueError, TtlError, UnknownCallerError
from mutua.ca.limits import Limits
from mutua.protos import istio_ca_pb2 as protos
from mutua.spiffe import TrustDomain
from mutua.system import clock, logs
from mutua.system.logs import Log

SERVICE = "istio.v1.auth.IstioCertificateService"

External: TypeAlias = Callable[[str, Caller, timedelta, str, str], Awaitable[issue.Issued]]
"""(CSR, proven caller, lifetime asked for, signer that the pod names or "", the mesh's roots as PEM) → what was issued.

Another authority in the mesh's place. Raises IssueError."""

TokenReviewer: TypeAlias = Callable[[str, tuple[str, ...]], Awaitable[TokenReviewStatus]]
"""(token, wanted audiences) → the API server's TokenReview. Raises anything when the API server cannot be asked.

The API server refuses tokens of deleted pods and accounts; the review is asked for every request, never remembered.
"""

_ANSWERS: Mapping[type[IssueError], tuple[grpc.StatusCode, str]] = {
    UnknownCallerError: (grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure"),
    CsrError: (grpc.StatusCode.INVALID_ARGUMENT, "CSR signing error"),
    TtlError: (grpc.StatusCode.INVALID_ARGUMENT, "CSR signing error: requested lifetime too long"),
}
_SIGNER_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,251}[A-Za-z0-9])?")
"""One segment: a pod chooses among the signers of a domain, not the domain."""

_OUR_FAULT = (grpc.StatusCode.INTERNAL, "CSR signing error")

_LOG = Log("ca")


class _NotYetError(Exception):
    """What is needed to judge a token is not known, or the API server could not be asked; not the caller's fault."""


class CertificateService:
    """Answers CreateCertificate on every port of the gRPC server that it is added to.

    Where TLS verified a client certificate (port 15012), that is the caller; elsewhere (15013) it is the bearer token.
    Nothing in the request says who the caller is.
    """

    def __init__(
        self,
        authority: Callable[[], Authority | None],
        review_token: TokenReviewer,
        trust_domain: TrustDomain,
        *,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
        external: External | None = None,
        addresses_of: Callable[[str, str], tuple[str, ...]] | None = None,
        cluster_id: str = "Kubernetes",
        now: clock.Clock = clock.now,
        new_serial: Callable[[], int] = x509.random_serial_number,
    ) -> None:
        """`authority` is called for each request, so that it may change; None means not ready.

        With `external`, that signs in its place, and only the roots are the authority's. With `addresses_of(namespace,
        pod)`, () while they are not known, a token is taken only from the pod that it is bound to.
        """
        self._authority = authority
        self._review_token = review_token
        self._trust_domain = trust_domain
        self._limits = limits
        self._external = external
        self._addresses_of = addresses_of
        self._cluster_id = cluster_id
        self._now = now
        self._new_serial = new_serial
        self._strangers = logs.Limit()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service; before the server starts."""
        handler = grpc.unary_unary_rpc_method_handler(
            self.create_certificate,
            request_deserializer=protos.IstioCertificateRequest.FromString,
            response_serializer=protos.IstioCertificateResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"CreateCertificate": handler}),)
        )

    async def create_certificate(
        self,
        request: protos.IstioCertificateRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> protos.IstioCertificateResponse:
        """The one method. The peer learns the kind of a failure and a reference; our log holds the reason."""
        who: Caller | None = None
        try:
            who = await self._caller(context)
            _refuse_impersonation(request)
            issued = await self._issue(request, who)
        except IssueError as refusal:
            code, text = _ANSWERS.get(type(refusal), _OUR_FAULT)
            await self._abort(context, code, text, str(refusal), who)
        except _NotYetError as failure:
            await self._abort(context, grpc.StatusCode.UNAVAILABLE, "token review unavailable", str(failure), who)
        _audit(issued, who, context.peer())
        return protos.IstioCertificateResponse(cert_chain=issued.chain)

    async def _abort(
        self,
        context: "grpc.aio.ServicerContext[Any, Any]",
        code: grpc.StatusCode,
        text: str,
        reason: str,
        who: Caller | None,
    ) -> NoReturn:
        reference = secrets.token_hex(4)
        # Whoever is proven may have every line; strangers must not be able to fill the log.
        left_out = 0 if who else self._strangers.take(self._now().timestamp())
        if left_out is not None:
            _LOG.warn(
                "certificate refused",
                reason=reason,
                code=code.name,
                reference=reference,
                identity=who.identity if who else "unknown",
                peer=context.peer(),
                **({"left_out_before": left_out} if left_out else {}),
            )
        await context.abort(code, f"{text} (reference {reference} in the control plane's log)")
        raise AssertionError("abort returned")  # it raises always; the checker cannot know

    async def _caller(self, context: "grpc.aio.ServicerContext[Any, Any]") -> Caller:
        authentication: Mapping[str, Sequence[bytes]] = context.auth_context()
        if list(authentication.get("transport_security_type", ())) != [b"ssl"]:
            raise UnknownCallerError("the connection is not TLS")
        if certificates := authentication.get("x509_pem_cert"):
            return callers.from_certificate(bytes(certificates[0]), self._trust_domain, self._now())
        metadata = tuple(context.invocation_metadata() or ())
        callers.require_local_cluster(_first(metadata, "clusterid"), self._cluster_id)
        token = _bearer(metadata)
        try:
            status = await self._review_token(token, (callers.AUDIENCE,))
        except IssueError:
            raise
        except Exception as error:
            raise _NotYetError(f"TokenReview failed: {type(error).__name__}: {error}") from error
        caller = callers.from_token_review(status, self._trust_domain)
        callers.require_audience(status)
        if self._addresses_of is not None:
            addresses = self._addresses_of(caller.identity.namespace, caller.pod)
            if caller.pod and not addresses:
                # The agent may be faster than the news of its pod; it comes again.
                raise _NotYetError(f"no address of pod {caller.identity.namespace}/{caller.pod} is known yet")
            callers.require_own_pod(caller, context.peer(), addresses)
        return caller

    async def _issue(self, request: protos.IstioCertificateRequest, who: Caller) -> issue.Issued:
        authority = self._authority()
        # A century is more than any limit, and less than what datetime can hold.
        ttl = timedelta(seconds=max(0, min(request.validity_duration, 100 * 366 * 86400)))
        if self._external is not None:
            if authority is None:
                raise AuthorityError("the mesh's roots are not known yet")
            return await self._external(request.csr, who, ttl, _signer(request), authority.root_bundle)
        arguments = (request.csr, who, authority, self._now(), self._new_serial(), ttl, self._limits)
        if authority is not None and authority.signs_slowly:
            return await asyncio.to_thread(issue.certificate, *arguments)
        return issue.certificate(*arguments)


def _signer(request: protos.IstioCertificateRequest) -> str:
    """The signer that a pod names. Source: Istio's `CertSigner` in the request's metadata. Raises CsrError."""
    named = request.metadata.fields.get("CertSigner")
    name = named.string_value if named is not None else ""
    if name and not _SIGNER_NAME.fullmatch(name):
        raise CsrError(f"{name[:100]!r} is no signer's name")
    return name


def _refuse_impersonation(request: protos.IstioCertificateRequest) -> None:
    """Node proxies ask for other workloads' certificates by this field; there are none in this mesh."""
    if request.metadata.fields.get("ImpersonatedIdentity") is not None:
        raise UnknownCallerError("the request asks for another workload's identity; no account may do so in this mesh")


def _audit(issued: issue.Issued, who: Caller, peer: str) -> None:
    proof = (
        {"serial": f"{who.serial:x}"} if who.serial else {"pod": who.pod or "unbound", "pod_uid": who.pod_uid or "-"}
    )
    _LOG.info(
        "certificate issued",
        identity=who.identity,
        serial=f"{issued.serial:x}",
        not_after=issued.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
        credential=who.credential.value,
        **{f"credential_{key}": value for key, value in proof.items()},
        peer=peer,
    )


def _first(metadata: Sequence[tuple[str, str | bytes]], key: str) -> str:
    return next((value for name, value in metadata if name == key and isinstance(value, str)), "")


def _bearer(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    for name, value in metadata:
        if name == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
            return value.removeprefix("Bearer ")
    raise UnknownCallerError("neither a client certificate nor a bearer token")
