"""Discovery documents: which groups, versions and resources there are. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from localcluster.apiserver.kinds import ALL_VERBS, KindInfo, version_priority

Object = dict[str, Any]

# Between the two kubectl releases that are tested, so that neither warns about the difference.
VERSION = {
    "major": "1",
    "minor": "33",
    "emulationMajor": "1",
    "emulationMinor": "33",
    "gitVersion": "v1.33.0+localcluster",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "python",
    "platform": "linux/amd64",
}
# (group, version, kind, verbs) that a subresource answers with, where it isn't the object itself.
_SUBRESOURCES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "scale": ("autoscaling", "v1", "Scale", ("get", "patch", "update")),
    "finalize": ("", "v1", "Namespace", ("update",)),
    "log": ("", "v1", "Pod", ("get",)),
    "exec": ("", "v1", "PodExecOptions", ("create", "get")),
    "attach": ("", "v1", "PodAttachOptions", ("create", "get")),
    "portforward": ("", "v1", "PodPortForwardOptions", ("create", "get")),
    "binding": ("", "v1", "Binding", ("create",)),
    "eviction": ("policy", "v1", "Eviction", ("create",)),
    "token": ("authentication.k8s.io", "v1", "TokenRequest", ("create",)),
}
_STATUS_VERBS = ("get", "patch", "update")


def _subresource(kind: KindInfo, name: str) -> tuple[str, str, str, tuple[str, ...]]:
    return _SUBRESOURCES.get(name, (kind.group, kind.version, kind.kind, _STATUS_VERBS))


def _ordered(verbs: tuple[str, ...]) -> list[str]:
    return [verb for verb in ALL_VERBS if verb in verbs]


def groups(kinds: Iterable[KindInfo]) -> dict[str, dict[str, list[KindInfo]]]:
    """Group -> version -> kinds seen at that version; versions with the preferred first, the core group first."""
    found: dict[str, dict[str, list[KindInfo]]] = {}
    for kind in kinds:
        for version in kind.served_versions:
            found.setdefault(kind.group, {}).setdefault(version, []).append(kind.at(version))
    return {
        group: dict(sorted(versions.items(), key=lambda item: version_priority(item[0])))
        for group, versions in found.items()
    }


def api_versions() -> Object:
    """`/api`."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_list(kinds: Iterable[KindInfo]) -> Object:
    """`/apis`."""
    named = [_group(name, list(versions)) for name, versions in groups(kinds).items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": named}


def group(kinds: Iterable[KindInfo], name: str) -> Object | None:
    """`/apis/<group>`, None if there is no such group."""
    versions = groups(kinds).get(name)
    return (
        None if not versions or not name else {"kind": "APIGroup", "apiVersion": "v1", **_group(name, list(versions))}
    )


def _group(name: str, versions: list[str]) -> Object:
    entries = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


def resource_list(kinds: Iterable[KindInfo], name: str, version: str) -> Object | None:
    """`/api/v1` and `/apis/<group>/<version>`, None if it isn't served."""
    found = groups(kinds).get(name, {}).get(version)
    if not found:
        return None
    resources: list[Object] = []
    for kind in sorted(found, key=lambda kind: kind.plural):
        entry: Object = {
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": _ordered(kind.verbs),
        }
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        resources.append(entry)
        for subresource in sorted(kind.subresources):
            sub_group, sub_version, sub_kind, verbs = _subresource(kind, subresource)
            resources.append(
                {
                    "name": f"{kind.plural}/{subresource}",
                    "singularName": "",
                    "namespaced": kind.namespaced,
                    "group": sub_group,
                    "version": sub_version,
                    "kind": sub_kind,
                    "verbs": list(verbs),
                }
            )
    group_version = f"{name}/{version}" if name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def aggregated(kinds: Iterable[KindInfo], *, core: bool, version: str) -> Object:
    """`/api` (core) or `/apis` in one document (apidiscovery.k8s.io, `version` is v2 or v2beta1)."""
    items = [
        {
            "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
            "versions": [
                {"version": served, "freshness": "Current", "resources": [_aggregated_resource(kind) for kind in found]}
                for served, found in versions.items()
            ],
        }
        for name, versions in groups(kinds).items()
        if (name == "") == core
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _aggregated_resource(kind: KindInfo) -> Object:
    entry: Object = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": _ordered(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    if kind.subresources:
        entry["subresources"] = [
            {"subresource": name, "responseKind": {"group": group, "version": version, "kind": word}, "verbs": [*verbs]}
            for name in sorted(kind.subresources)
            for group, version, word, verbs in (_subresource(kind, name),)
        ]
    return entry
