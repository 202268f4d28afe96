"""What the API answers when it refuses: metav1.Status as exceptions, and one error per field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_TYPE_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One violated rule of one field, as `metav1.StatusCause`: reason (a `FieldValue*` word), path and message."""

    field: str
    reason: str
    message: str

    def cause(self) -> dict[str, str]:
        """The cause as it stands in `status.details.causes`."""
        return {"reason": self.reason, "message": self.message, "field": self.field}

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def shown(value: object) -> str:
    """A value as Kubernetes' messages quote it: JSON, strings in double quotes."""
    return json.dumps(value, ensure_ascii=False, default=str)


def required(field: str, detail: str = "") -> FieldError:
    """The field is missing."""
    return FieldError(field, "FieldValueRequired", f"Required value: {detail}" if detail else "Required value")


def invalid(field: str, value: object, detail: str) -> FieldError:
    """The value breaks a rule that `detail` tells."""
    return FieldError(field, "FieldValueInvalid", f"Invalid value: {shown(value)}: {detail}")


def not_supported(field: str, value: object, supported: Iterable[str]) -> FieldError:
    """The value is none of an enumeration."""
    words = ", ".join(shown(word) for word in supported)
    return FieldError(field, "FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {words}")


def duplicate(field: str, value: object) -> FieldError:
    """The value (or the key of a list's element) appears twice."""
    return FieldError(field, "FieldValueDuplicate", f"Duplicate value: {shown(value)}")


def forbidden(field: str, detail: str) -> FieldError:
    """The field may not be set, or not be changed, here."""
    return FieldError(field, "FieldValueForbidden", f"Forbidden: {detail}")


def not_found(field: str, value: object) -> FieldError:
    """The value names something that does not exist."""
    return FieldError(field, "FieldValueNotFound", f"Not found: {shown(value)}")


def type_invalid(field: str, value: object, expected: str) -> FieldError:
    """The value has the wrong JSON type; `expected` is OpenAPI's name of the right one."""
    got = "null" if value is None else _TYPE_NAMES.get(type(value), type(value).__name__)
    detail = f'{field} in body must be of type {expected}: "{got}"'
    return FieldError(field, "FieldValueTypeInvalid", f"Invalid value: {shown(got)}: {detail}")


def too_long(field: str, maximum: int) -> FieldError:
    """The string has more than `maximum` bytes."""
    return FieldError(field, "FieldValueTooLong", f"Too long: may not be more than {maximum} bytes")


def too_many(field: str, count: int, maximum: int) -> FieldError:
    """The list has more than `maximum` items."""
    return FieldError(field, "FieldValueTooMany", f"Too many: {count}: must have at most {maximum} items")


class ApiError(Exception):
    """A refusal; `status()` is the metav1.Status that the client sees, `code` the HTTP status."""

    code = 500
    reason = "InternalError"

    def __init__(
        self,
        message: str,
        *,
        group: str = "",
        resource: str = "",
        name: str = "",
        causes: Sequence[FieldError] = (),
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.group = group
        self.resource = resource
        self.name = name
        self.causes = tuple(causes)
        self.retry_after_seconds = retry_after_seconds

    def status(self) -> dict[str, Any]:
        """The metav1.Status of this refusal."""
        details: dict[str, Any] = {}
        if self.name:
            details["name"] = self.name
        if self.group:
            details["group"] = self.group
        if self.resource:
            details["kind"] = self.resource
        if self.causes:
            details["causes"] = [cause.cause() for cause in self.causes]
        if self.retry_after_seconds is not None:
            details["retryAfterSeconds"] = self.retry_after_seconds
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if details:
            status["details"] = details
        return status


class BadRequestError(ApiError):
    """400: the request can't be read, or asks for something that has no meaning."""

    code = 400
    reason = "BadRequest"


class UnauthorizedError(ApiError):
    """401: no credential, or none that we know."""

    code = 401
    reason = "Unauthorized"

    def __init__(self, message: str = "Unauthorized") -> None:
        super().__init__(message)


class ForbiddenError(ApiError):
    """403: understood and refused."""

    code = 403
    reason = "Forbidden"


class NotFoundError(ApiError):
    """404: no such object, or no such resource."""

    code = 404
    reason = "NotFound"


class MethodNotAllowedError(ApiError):
    """405: the resource lacks this verb."""

    code = 405
    reason = "MethodNotAllowed"


class NotAcceptableError(ApiError):
    """406: only representations that the client did not ask for."""

    code = 406
    reason = "NotAcceptable"


class AlreadyExistsError(ApiError):
    """409 at creation: the name is taken."""

    code = 409
    reason = "AlreadyExists"


class ConflictError(ApiError):
    """409: the object changed since it was read, or another manager owns a field."""

    code = 409
    reason = "Conflict"


class GoneError(ApiError):
    """410: the resource version is older than the history that is kept; list again."""

    code = 410
    reason = "Expired"


class RequestTimeoutError(ApiError):
    """408: the client takes too long to say what it wants."""

    code = 408
    reason = "Timeout"


class TooLargeError(ApiError):
    """413: the body is over the limit."""

    code = 413
    reason = "RequestEntityTooLarge"


class UnsupportedMediaTypeError(ApiError):
    """415: a body in a format that we don't read."""

    code = 415
    reason = "UnsupportedMediaType"


class InvalidError(ApiError):
    """422: read, but it breaks rules of its kind; one cause per field."""

    code = 422
    reason = "Invalid"

    @classmethod
    def of(cls, kind: str, group: str, name: str, causes: Sequence[FieldError]) -> InvalidError:
        """The error in Kubernetes' words: `Pod "x" is invalid: spec.containers: Required value`."""
        texts = list(dict.fromkeys(str(cause) for cause in causes))
        listed = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
        qualified = f"{kind}.{group}" if group else kind
        return cls(f'{qualified} "{name}" is invalid: {listed}', group=group, resource=kind, name=name, causes=causes)


class TooManyRequestsError(ApiError):
    """429: not now, because a budget or a limit is exhausted."""

    code = 429
    reason = "TooManyRequests"


class InternalServerError(ApiError):
    """500: we failed, or a webhook did."""

    code = 500
    reason = "InternalError"


class ServiceUnavailableError(ApiError):
    """503: something that this request needs does not answer."""

    code = 503
    reason = "ServiceUnavailable"


class DeadlineExceededError(ApiError):
    """504: the deadline passed first."""

    code = 504
    reason = "Timeout"
