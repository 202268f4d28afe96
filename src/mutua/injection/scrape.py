"""Where an application's own metrics are, which the agent prints beside Envoy's. Source: Istio's metrics merging."""

from collections.abc import Mapping
from typing import Any

import msgspec

from mutua.errors import InvalidInputError

VARIABLE = "ISTIO_PROMETHEUS_ANNOTATIONS"
"""The sidecar's environment variable: what the pod's own annotations said."""

MERGE_ANNOTATION = "prometheus.istio.io/merge-metrics"
MERGED_PAGE = "/stats/prometheus"
_PREFIX = "prometheus.io/"
_KEYS = ("scrape", "port", "path", "scheme")
_DEFAULT_PORT, _DEFAULT_PATH = "80", "/metrics"


class Scrape(msgspec.Struct, frozen=True):
    """The page of the application's metrics, on the pod's own address."""

    port: int
    path: str
    scheme: str = "http"


def wanted(annotations: Mapping[str, str], *, mesh_wide: bool) -> bool:
    """Whether one page is to show both: as the pod says, else as the mesh does."""
    said = annotations.get(MERGE_ANNOTATION, "").lower()
    return mesh_wide if said not in ("true", "false") else said == "true"


def variable(annotations: Mapping[str, str], status_port: int) -> list[dict[str, Any]]:
    """The sidecar's environment, from the pod's annotations; nothing where they name no page that can be read."""
    said = _said(annotations)
    # The sidecar's own port: the pod was injected before.
    if not said or said.get("port") == str(status_port) or problem(annotations):
        return []
    return [{"name": VARIABLE, "value": msgspec.json.encode(said).decode()}]


def annotations_of(port: int) -> dict[str, str]:
    """What tells a scraper where the sidecar's page is."""
    return {_PREFIX + "scrape": "true", _PREFIX + "port": str(port), _PREFIX + "path": MERGED_PAGE}


def problem(annotations: Mapping[str, str]) -> str:
    """Why the page that a pod's annotations name cannot be read; "" if it can, or if they name none."""
    try:
        _page(_said(annotations))
    except InvalidInputError as error:
        return error.message
    return ""


def decode(text: str) -> Scrape | None:
    """The page that the variable means; None if there is none. Raises InvalidInputError for what no injector writes."""
    if not text:
        return None
    try:
        return _page(msgspec.json.decode(text, type=dict[str, str]))
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"environment variable {VARIABLE} is no object of texts: {error}") from error


def _said(annotations: Mapping[str, str]) -> dict[str, str]:
    return {key: annotations[_PREFIX + key] for key in _KEYS if annotations.get(_PREFIX + key)}


def _page(said: Mapping[str, str]) -> Scrape | None:
    if said.get("scrape", "").lower() != "true":
        return None
    port, path, scheme = said.get("port", _DEFAULT_PORT), said.get("path", _DEFAULT_PATH), said.get("scheme", "http")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InvalidInputError(f"annotation {_PREFIX}port is {port!r}, not a port; the sidecar's page leaves it out")
    if scheme not in ("http", "https"):
        raise InvalidInputError(f"annotation {_PREFIX}scheme is {scheme!r}, not http or https")
    return Scrape(int(port), path if path.startswith("/") else f"/{path}", scheme)
