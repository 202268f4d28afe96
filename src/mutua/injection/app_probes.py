"""Probes of an application that the agent asks in the kubelet's place: the kubelet has no certificate."""

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from mutua.errors import InvalidInputError

VARIABLE = "ISTIO_KUBE_APP_PROBERS"
"""The sidecar's environment variable: a JSON object from path to `AppProbe`. Source: Istio."""

STATUS_PORT = 15020
"""Where the agent answers, unless the pod or the mesh chooses another port."""

_PATHS = {
    "readinessProbe": "/app-health/{}/readyz",
    "livenessProbe": "/app-health/{}/livez",
    "startupProbe": "/app-health/{}/startupz",
}
_LIFECYCLE_PATHS = {"postStart": "/app-lifecycle/{}/poststartz", "preStop": "/app-lifecycle/{}/prestopz"}
_LIFECYCLE_SECONDS = 30
"""The kubelet sets no limit of its own; the pod's grace period ends a longer hook anyway."""
_KINDS = ("httpGet", "tcpSocket", "grpc")

Object = dict[str, Any]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Header(msgspec.Struct, frozen=True):
    """One header of an HTTP probe."""

    name: str
    value: str


class HttpGet(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A GET of the pod's own port; `path` "" stands for `/`."""

    port: Port
    path: str = ""
    scheme: Literal["", "HTTP", "HTTPS"] = ""
    http_headers: tuple[Header, ...] = ()


class TcpSocket(msgspec.Struct, frozen=True):
    """A connection to the pod's own port."""

    port: Port


class Grpc(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question in the gRPC health protocol."""

    port: Port
    service: str = ""


class AppProbe(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One question to the application; exactly one of the first three is set."""

    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: Grpc | None = None
    timeout_seconds: int = 0

    @property
    def seconds(self) -> float:
        """How long to wait for the answer; Kubernetes' own default is one second."""
        return float(self.timeout_seconds or 1)


def decode(text: str) -> dict[str, AppProbe]:
    """What the agent is told, by path. Raises InvalidInputError."""
    if not text:
        return {}
    try:
        found = msgspec.json.decode(text, type=dict[str, AppProbe])
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"{VARIABLE}: {error}", "the injector writes it; do not set it by hand") from error
    for path, probe in found.items():
        if sum(kind is not None for kind in (probe.http_get, probe.tcp_socket, probe.grpc)) != 1:
            raise InvalidInputError(f"{VARIABLE}: {path}: expected exactly one of {', '.join(_KINDS)}")
    return found


def rewrite(containers: Iterable[Object], status_port: int, but: Collection[str] = ()) -> dict[str, AppProbe]:
    """Turn the containers' network probes and hooks, in place, to the agent's port; what the agent must then ask.

    Left as they are: commands, probes of another host, of a named port that the container does not have, and those
    that ask the agent already; and the fields `but`.
    """
    found: dict[str, AppProbe] = {}
    for container in containers:
        for field, pattern in _PATHS.items():
            if field not in but and (question := _question(container.get(field), container, status_port)):
                path = pattern.format(container["name"])
                container[field] = _asking_the_agent(container[field], path, status_port)
                found[path] = question
        hooks = container.get("lifecycle") or {}
        for field, pattern in _LIFECYCLE_PATHS.items():
            if field in but or "httpGet" not in (hooks.get(field) or {}):
                continue
            if question := _question(hooks[field], container, status_port):
                path = pattern.format(container["name"])
                container["lifecycle"] = hooks = hooks | {field: _asking_the_agent(hooks[field], path, status_port)}
                found[path] = msgspec.structs.replace(question, timeout_seconds=_LIFECYCLE_SECONDS)
    return found


def unprotected(container: Mapping[str, Any], status_port: int) -> list[str]:
    """The fields of the container's probes that go over the network, and not to the agent."""
    return [
        field
        for field in _PATHS
        if any(
            kind in (container.get(field) or {}) and (container[field][kind] or {}).get("port") != status_port
            for kind in _KINDS
        )
    ]


def encode(probes: Mapping[str, AppProbe]) -> str:
    """As the agent reads it."""
    return msgspec.json.encode(probes, order="sorted").decode()


def _question(handler: Any, container: Mapping[str, Any], status_port: int) -> AppProbe | None:
    """What the handler asks of this pod over the network, or None if that is not for the agent."""
    kind = next((kind for kind in _KINDS if isinstance(handler, Mapping) and kind in handler), None)
    if kind is None or not isinstance(handler[kind], Mapping) or handler[kind].get("host"):
        return None
    action: Object = {field: value for field, value in handler[kind].items() if value is not None}
    action["port"] = _port_number(action.get("port"), container)
    if action["port"] == status_port:
        return None
    try:
        return msgspec.convert({kind: action, "timeoutSeconds": handler.get("timeoutSeconds") or 0}, AppProbe)
    except msgspec.ValidationError:
        return None  # the API server refuses such a pod, with better words


def _port_number(port: Any, container: Mapping[str, Any]) -> Any:
    if not isinstance(port, str):
        return port
    named = {entry.get("name"): entry.get("containerPort") for entry in container.get("ports") or ()}
    return named.get(port, int(port) if port.isascii() and port.isdigit() else None)


def _asking_the_agent(handler: Mapping[str, Any], path: str, status_port: int) -> Object:
    """The kubelet asks in plain HTTP; HTTPS, if it was, is between the agent and the application."""
    kept = {field: value for field, value in handler.items() if field not in _KINDS}
    action = dict(handler.get("httpGet") or {}) | {"path": path, "port": status_port}
    if "scheme" in action:
        action["scheme"] = "HTTP"
    return kept | {"httpGet": action}
