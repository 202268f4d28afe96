"""Envoy's admin interface on the pod's own loopback."""

import http.client
import re
from contextlib import closing

from mutua.errors import UnavailableError

ADMIN_PORT = 15000
_ACTIVE = re.compile(r"^listener\.(?P<listener>.+)\.downstream_cx_active: (?P<count>\d+)$", re.MULTILINE)


def request(method: str, path: str, *, port: int = ADMIN_PORT, timeout_seconds: float = 10) -> tuple[int, bytes]:
    """Status and body. Raises UnavailableError when Envoy does not answer."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)) as connection:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(
            f"Envoy's admin interface on 127.0.0.1:{port} does not answer {method} {path}: {error}",
            "is the sidecar running? its log is in container istio-proxy",
        ) from error


def active_connections(*, port: int = ADMIN_PORT, except_ports: tuple[int, ...]) -> int:
    """How many connections the listeners hold open, those of the probe and metrics ports left out."""
    _, body = request("GET", "/stats?filter=%5Elistener%5C..*downstream_cx_active%24", port=port, timeout_seconds=2)
    return active_connections_in(body.decode("utf-8", "replace"), except_ports)


def active_connections_in(stats: str, except_ports: tuple[int, ...]) -> int:
    """The sum over listeners in Envoy's text statistics; per-worker counts and the admin's own are left out."""
    total = 0
    for found in _ACTIVE.finditer(stats):
        listener = found["listener"]
        if (
            listener.partition(".")[0] == "admin"
            or ".worker_" in listener
            or listener.endswith(tuple(f"_{port}" for port in except_ports))
        ):
            continue
        total += int(found["count"])
    return total
