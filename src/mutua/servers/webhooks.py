"""Answers the API server's questions: what a new pod becomes, and whether an object of ours may be stored."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mutua.api.findings import Finding
from mutua.injection import decide, patch
from mutua.injection.settings import InjectionError, InjectorSettings
from mutua.system.logs import Log

BODY_LIMIT_BYTES = 3 * 1024 * 1024
_MAX_WARNING_CHARACTERS = 256  # Kubernetes cuts longer ones off

Judge = Callable[[Mapping[str, Any]], tuple[Finding, ...]]
Document = dict[str, Any]


class AdmissionRequest(msgspec.Struct, rename="camel"):
    """The part of an admission/v1 AdmissionRequest that we read."""

    uid: str
    namespace: str = ""
    name: str = ""
    operation: str = ""
    object: dict[str, Any] | None = None


class AdmissionReview(msgspec.Struct):
    """admission/v1 AdmissionReview, as it comes in."""

    request: AdmissionRequest


class _BadReviewError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def application(settings: Callable[[], InjectorSettings], judge: Judge, log: Log) -> Starlette:
    """The web application of port 15017.

    `settings` gives the injector's settings of the moment. `judge` says everything that is wrong or doubtful about an
    object as written by a user; an error refuses it, anything else becomes a warning. Whatever comes in, the answer is
    never a 500: what cannot be read is a 400, what is too large a 413.
    """

    async def inject(request: Request) -> Response:
        return await _answer(request, lambda review: _inject(review, _overridden(settings(), request), log))

    async def validate(request: Request) -> Response:
        return await _answer(request, lambda review: _validate(review, judge))

    return Starlette(
        routes=[
            Route("/inject", inject, methods=["POST"]),
            Route("/inject/{path:path}", inject, methods=["POST"]),
            Route("/validate", validate, methods=["POST"]),
        ]
    )


async def _answer(request: Request, decide_on: Callable[[AdmissionRequest], Document]) -> Response:
    try:
        review = _decode(await _body(request))
        answer = {"uid": review.request.uid} | decide_on(review.request)
    except _BadReviewError as error:
        return Response(error.message + "\n", error.status, media_type="text/plain")
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
    return Response(msgspec.json.encode(body), media_type="application/json")


async def _body(request: Request) -> bytes:
    """The body, read no further than the limit, whatever its length claims to be."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT_BYTES:
            raise _BadReviewError(413, f"the request is larger than {BODY_LIMIT_BYTES} bytes")
    return bytes(body)


def _decode(body: bytes) -> AdmissionReview:
    try:
        review = msgspec.json.decode(body, type=AdmissionReview)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _BadReviewError(400, f"not an AdmissionReview: {error}") from error
    if review.request.object is None and review.request.operation != "DELETE":
        raise _BadReviewError(400, "the AdmissionReview holds no object")
    return review


def _inject(review: AdmissionRequest, settings: InjectorSettings, log: Log) -> Document:
    pod = review.object or {}
    try:
        metadata = pod.get("metadata") or {}
        name = metadata.get("name") or metadata.get("generateName") or review.name
        decision = decide.should_inject(pod, review.namespace, settings)
        if not decision.inject:
            log.info("pod not injected", namespace=review.namespace, pod=name, reason=decision.reason)
            return {"allowed": True}
        injection = patch.inject(pod, review.namespace, settings)
    except InjectionError as error:
        log.warn("pod refused", namespace=review.namespace, reason=error.message)
        return _refusal(400, "BadRequest", f"{error.message} ({error.hint})" if error.hint else error.message)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # A pod that we cannot read must not run without its sidecar.
        log.warn("pod has not the shape of a pod", namespace=review.namespace, error=error)
        return _refusal(400, "BadRequest", f"the object has not the shape of a pod: {error}")
    log.info("pod injected", namespace=review.namespace, pod=name, reason=decision.reason)
    answer: Document = {
        "allowed": True,
        "patchType": "JSONPatch",
        "patch": base64.b64encode(msgspec.json.encode(injection.operations)).decode(),
    }
    if injection.warnings:
        answer["warnings"] = [_short(f"mutua: {warning}") for warning in injection.warnings]
    return answer


def _validate(review: AdmissionRequest, judge: Judge) -> Document:
    if review.object is None:
        return {"allowed": True}
    findings = judge(review.object)
    errors = [finding for finding in findings if finding.is_error]
    warnings = [_short(_line(finding)) for finding in findings if not finding.is_error]
    if not errors:
        return {"allowed": True} | ({"warnings": warnings} if warnings else {})
    causes = [{"reason": "FieldValueInvalid", "field": error.field, "message": error.message} for error in errors]
    first = errors[0]
    details = {"name": first.name, "kind": first.kind, "causes": causes}
    message = f'{first.kind} "{first.name}" is invalid: ' + "; ".join(_line(error) for error in errors)
    refusal = _refusal(422, "Invalid", message)
    refusal["status"]["details"] = details
    return refusal | ({"warnings": warnings} if warnings else {})


def _refusal(code: int, reason: str, message: str) -> Document:
    status = {"status": "Failure", "code": code, "reason": reason, "message": message}
    return {"allowed": False, "status": status}


def _line(finding: Finding) -> str:
    text = (
        f"{finding.field}: {finding.message}" if finding.field else f"{finding.kind} {finding.name} {finding.message}"
    )
    return f"{text} ({finding.hint})" if finding.hint else text


def _short(text: str) -> str:
    return text if len(text) <= _MAX_WARNING_CHARACTERS else text[: _MAX_WARNING_CHARACTERS - 1] + "…"


def _overridden(settings: InjectorSettings, request: Request) -> InjectorSettings:
    """Settings with what the webhook's URL says, as in /inject/cluster/west/net/network1.

    Source: Istio's injection URL.
    """
    parts = str(request.path_params.get("path", "")).split("/")
    chosen = dict(zip(parts[::2], parts[1::2], strict=False))
    changes = {
        field: chosen[word] for word, field in (("cluster", "cluster_id"), ("net", "network")) if chosen.get(word)
    }
    return msgspec.structs.replace(settings, **changes) if changes else settings
