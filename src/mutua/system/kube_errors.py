"""What can go wrong between us and the API server, each with its cause and what to do."""

from typing import Any

import msgspec

from mutua.errors import ConflictError, MutuaError, NotFoundError, RefusedError, UnavailableError


class KubeError(MutuaError):
    """The API server answered with an error, or did not answer (`status` 0). Source: Kubernetes' meta/v1 Status."""

    def __init__(self, message: str, *, hint: str = "", status: int = 0, reason: str = "") -> None:
        super().__init__(message, hint)
        self.status = status
        self.reason = reason


class KubeUnreachableError(KubeError, UnavailableError):
    """No connection, or no answer in time."""


class KubeNotFoundError(KubeError, NotFoundError):
    """404: the object, or its whole kind, does not exist."""


class KubeConflictError(KubeError, ConflictError):
    """409: it exists already, or changed since it was read."""


class KubeRefusedError(KubeError, RefusedError):
    """401 or 403: who asks is not known, or has not the right."""


class KubeGoneError(KubeError):
    """410: the resource version is too old; list again."""


def from_response(status: int, body: bytes, action: str) -> KubeError:
    """The error for an HTTP answer of 400 or more. `action` says what was tried, as in "list pods in namespace x"."""
    said = _decode_status(body)
    message = str(said.get("message") or "") or body[:200].decode(errors="replace").strip() or f"HTTP {status}"
    reason = str(said.get("reason") or "")
    text = f"cannot {action}: {message}"
    match status:
        case 401:
            return KubeRefusedError(
                f"cannot {action}: the API server does not accept our credentials",
                hint="the kubeconfig's token may have expired; log in again, or run `mutua up` for the local cluster",
                status=status,
                reason=reason,
            )
        case 403:
            hint = "ask for the right, or use a context that has it"
            return KubeRefusedError(text, hint=hint, status=status, reason=reason)
        case 404:
            hint = "" if said.get("details") else "is the mesh installed? try `mutua install`"
            return KubeNotFoundError(text, hint=hint, status=status, reason=reason)
        case 409:
            return KubeConflictError(text, status=status, reason=reason)
        case 410:
            return KubeGoneError(text, status=status, reason=reason)
    return KubeError(text, status=status, reason=reason)


def unreachable(server: str, cause: Exception) -> KubeUnreachableError:
    """The error for a failed connection to `server`."""
    why = str(cause) or type(cause).__name__
    return KubeUnreachableError(
        f"cannot reach the Kubernetes API at {server}: {why}",
        hint="is the cluster running? `mutua status` shows local clusters; --kubeconfig and --context choose another",
    )


def _decode_status(body: bytes) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return said if isinstance(said, dict) else {}
