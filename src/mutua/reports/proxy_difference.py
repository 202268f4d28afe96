"""What the control plane sent against what the Envoy holds, as `proxy-status POD` shows it."""

import difflib
import email.utils
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from mutua.reports import envoy_dump
from mutua.xds.sync_state import Sent

KINDS: Final = {"CDS": "Clusters", "LDS": "Listeners", "RDS": "Routes"}
"""The types that are compared, in order, and what they are called. Source: istioctl."""

_CONTEXT_LINES: Final = 7

Document = dict[str, Any]


class Held(msgspec.Struct, frozen=True):
    """One resource that the Envoy holds."""

    version: str
    content: Document


def held(dump: Mapping[str, Any], kind: str) -> dict[str, Held]:
    """By name, what the control plane sent and the Envoy took. `kind` is CDS, LDS or RDS."""
    match kind:
        case "CDS":
            entries = _entries(dump, "ClustersConfigDump", "dynamic_active_clusters", "dynamic_warming_clusters")
            found = ((entry.get("version_info", ""), entry["cluster"]) for entry in entries)
        case "LDS":
            listeners = _entries(dump, "ListenersConfigDump", "dynamic_listeners")
            states = (entry.get("active_state") or entry.get("warming_state") for entry in listeners)
            found = ((state.get("version_info", ""), state["listener"]) for state in states if state)
        case _:
            entries = _entries(dump, "RoutesConfigDump", "dynamic_route_configs")
            found = ((entry.get("version_info", ""), entry["route_config"]) for entry in entries)
    return {str(content["name"]): Held(version, content) for version, content in found}


def differing(sent: Iterable[Sent], holds: Mapping[str, Held]) -> list[str]:
    """The names that one side has in another version, or alone, ascending. Versions are hashes of the content."""
    versions = {item.name: item.version for item in sent}
    names = versions.keys() | holds.keys()
    return sorted(name for name in names if name not in holds or versions.get(name) != holds[name].version)


def verdict(kind: str, names: Iterable[str], dump: Mapping[str, Any]) -> str:
    """One line, as istioctl says it."""
    what = KINDS[kind]
    if any(True for _ in names):
        return f"{what} Don't Match"
    return f"{what} Match (RDS last loaded at {_loaded(dump)})" if kind == "RDS" else f"{what} Match"


def difference(
    kind: str,
    names: Iterable[str],
    sent: Iterable[Sent],
    holds: Mapping[str, Held],
    readable: Callable[[Sent | Held], Document],
) -> str:
    """A unified diff of the resources that differ. `readable` gives both sides the same form."""
    bodies = {item.name: item for item in sent}
    ours: list[str] = []
    theirs: list[str] = []
    for name in names:
        ours += _lines(readable(bodies[name])) if name in bodies else []
        theirs += _lines(readable(holds[name])) if name in holds else []
    what = KINDS[kind]
    lines = difflib.unified_diff(ours, theirs, f"Istiod {what}", f"Envoy {what}", n=_CONTEXT_LINES, lineterm="")
    return "".join(line + "\n" for line in lines)


def _lines(content: Document) -> list[str]:
    return msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=2).decode().splitlines()


def _entries(dump: Mapping[str, Any], section: str, *keys: str) -> list[Document]:
    part = envoy_dump.section(dump, section)
    return [entry for key in keys for entry in part.get(key) or ()]


def _loaded(dump: Mapping[str, Any]) -> str:
    times = [
        datetime.fromisoformat(entry["last_updated"])
        for entry in _entries(dump, "RoutesConfigDump", "dynamic_route_configs")
        if entry.get("last_updated")
    ]
    return email.utils.format_datetime(max(times)) if times else "never"
