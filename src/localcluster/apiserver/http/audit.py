"""The audit log on request: who asked for what, when, and what came of it, as audit.k8s.io/v1 at level Metadata.

It is written while `logs/audit.log` exists, one JSON object a line, without bodies. Source: Kubernetes' "Auditing".
"""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from starlette.datastructures import Headers
from starlette.types import Message, Scope, Send

from localcluster.apiserver.authorization.rules import Attributes
from localcluster.apiserver.context import UserInfo
from localcluster.apiserver.errors import ApiError

Object = dict[str, Any]

_KEY = "localcluster.audit"


class Trail:
    """What is known of one request so far."""

    def __init__(self, path: Path, scope: Scope) -> None:
        """Begin with what the request itself says."""
        self._path = path
        headers = Headers(scope=scope)
        query = scope["query_string"].decode("latin-1")
        self._event: Object = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": str(uuid.uuid4()),
            "requestURI": scope["path"] + (f"?{query}" if query else ""),
            "verb": scope.get("method", "GET").lower(),
            "user": {},
            "sourceIPs": [scope["client"][0]] if scope.get("client") else [],
            "userAgent": headers.get("user-agent", ""),
            "requestReceivedTimestamp": _now(),
        }
        self.annotations: dict[str, str] = {}
        self._code = 0
        self._error: ApiError | None = None

    def caller(self, user: UserInfo, acts_as: UserInfo) -> None:
        """Who asks, and as whom."""
        self._event["user"] = user.as_json()
        if acts_as is not user:
            self._event["impersonatedUser"] = acts_as.as_json()

    def asked(self, wanted: Attributes, api_version: str) -> None:
        """What is asked for, before it is known whether it may be."""
        self._event["verb"] = wanted.verb
        if wanted.resource:
            named = {
                "resource": wanted.resource,
                "namespace": wanted.namespace,
                "name": wanted.name,
                "apiGroup": wanted.group,
                "apiVersion": api_version,
                "subresource": wanted.subresource,
            }
            self._event["objectRef"] = {key: value for key, value in named.items() if value}
        self.annotations["authorization.k8s.io/decision"] = "forbid"

    def allowed(self) -> None:
        """The authorizer lets it through."""
        self.annotations["authorization.k8s.io/decision"] = "allow"

    def failed(self, error: ApiError) -> None:
        """Why it is refused."""
        self._error = error

    def sending(self, send: Send, *, long: bool) -> Send:
        """`send`, with what it sends noted; `long` requests are told when they begin as well."""

        async def noting(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                self._code = message["status"]
            elif message["type"] == "websocket.accept":
                self._code = 101
            if self._code and long and "stage" not in self._event:
                self._write("ResponseStarted")
            await send(message)

        return noting

    def ended(self) -> None:
        """The answer is complete, or its client has left."""
        self._write("ResponseComplete")

    def _write(self, stage: str) -> None:
        status: Object = {"metadata": {}, "code": self._code}
        if self._error is not None:
            told = self._error.status()
            status |= {key: told[key] for key in ("status", "message", "reason") if key in told}
        self._event |= {"stage": stage, "responseStatus": status, "stageTimestamp": _now()}
        if self.annotations:
            self._event["annotations"] = self.annotations
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # nobody asks any more
        try:
            os.write(descriptor, msgspec.json.encode(self._event) + b"\n")
        finally:
            os.close(descriptor)


def begin(path: Path, scope: Scope) -> Trail | None:
    """The trail of a request, which travels with its scope; None if nobody asked for a log."""
    if not path.exists():
        return None
    trail = Trail(path, scope)
    scope[_KEY] = trail
    return trail


def of(scope: Scope) -> Trail | None:
    """The trail of a request, None without a log."""
    return scope.get(_KEY)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
