"""Reading Envoy's config dump: sections and resources as plain data, with the field names that Envoy prints."""

from collections.abc import Iterator, Mapping
from typing import Any

Document = dict[str, Any]

_PREFIX = "type.googleapis.com/envoy.admin.v3."


def section(dump: Mapping[str, Any], name: str) -> Document:
    """One section, as "SecretsConfigDump"; {} if the Envoy has none."""
    for part in dump.get("configs") or ():
        if part.get("@type") == _PREFIX + name:
            return dict(part)
    return {}


def clusters(dump: Mapping[str, Any]) -> list[Document]:
    """All clusters, static ones first, each group by name."""
    part = section(dump, "ClustersConfigDump")
    found = [
        [entry["cluster"] for entry in part.get(key) or ()] for key in ("static_clusters", "dynamic_active_clusters")
    ]
    return [cluster for group in found for cluster in sorted(group, key=_name)]


def listeners(dump: Mapping[str, Any]) -> list[Document]:
    """The listeners in force that the control plane sent."""
    entries = section(dump, "ListenersConfigDump").get("dynamic_listeners") or ()
    return sorted((entry["active_state"]["listener"] for entry in entries if "active_state" in entry), key=_name)


def routes(dump: Mapping[str, Any]) -> list[Document]:
    """All route configurations, those sent by the control plane first."""
    part = section(dump, "RoutesConfigDump")
    return [
        entry["route_config"]
        for key in ("dynamic_route_configs", "static_route_configs")
        for entry in sorted(part.get(key) or (), key=lambda entry: _name(entry.get("route_config") or {}))
        if "route_config" in entry
    ]


def secrets(dump: Mapping[str, Any]) -> Document:
    """The secrets' section with `default`, the workload's own certificate, first; readers take the first one for it."""
    part = section(dump, "SecretsConfigDump")
    for key in ("dynamic_active_secrets", "dynamic_warming_secrets", "static_secrets"):
        if key in part:
            part[key] = sorted(part[key], key=lambda entry: (entry.get("name") != "default", entry.get("name", "")))
    return part


def bootstrap(dump: Mapping[str, Any]) -> Document:
    """The bootstrap's section."""
    return section(dump, "BootstrapConfigDump")


def extensions(dump: Mapping[str, Any]) -> list[Document]:
    """Filters that the control plane sent apart from the listeners that use them, by name."""
    entries = section(dump, "EcdsConfigDump").get("ecds_filters") or ()
    return sorted((entry["ecds_filter"] for entry in entries if "ecds_filter" in entry), key=_name)


def extension_type(extension: Mapping[str, Any]) -> str:
    """The message type of a filter's configuration, as "envoy.extensions.filters.http.rbac.v3.RBAC"."""
    return str((extension.get("typed_config") or {}).get("@type", "")).rpartition("/")[2]


def types(document: Any) -> Iterator[str]:
    """Every message type that stands packed in a document, as "envoy.extensions.....UpstreamTlsContext"."""
    if isinstance(document, Mapping):
        url = document.get("@type")
        if isinstance(url, str):
            yield url.rpartition("/")[2]
        for value in document.values():
            yield from types(value)
    elif isinstance(document, list):
        for value in document:
            yield from types(value)


def _name(resource: Mapping[str, Any]) -> str:
    return str(resource.get("name", ""))
