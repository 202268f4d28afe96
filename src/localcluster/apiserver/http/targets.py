"""From a URL's path to what it names."""

from __future__ import annotations

from dataclasses import dataclass

from localcluster.apiserver.errors import NotFoundError
from localcluster.apiserver.kinds import NAMESPACE, KindInfo, Kinds

_NAMESPACE_SUBRESOURCES = ("status", "finalize")


@dataclass(frozen=True, slots=True)
class Target:
    """A collection (no name), an object, or a subresource of one. `namespace` is None where the path has none."""

    kind: KindInfo
    namespace: str | None
    name: str = ""
    subresource: str = ""


def unknown_path() -> NotFoundError:
    """The 404 for a path that means nothing here."""
    return NotFoundError("the server could not find the requested resource")


def names_resource(path: str) -> bool:
    """Whether a path is of a resource's form; any other names a document."""
    root, *steps = path.strip("/").split("/")
    return (root == "api" and len(steps) > 1) or (root == "apis" and len(steps) > 2)


def parse(path: str, kinds: Kinds) -> Target:
    """The target of `/api/v1/...` or `/apis/<group>/<version>/...`. NotFoundError if there is no such resource."""
    root, *steps = path.strip("/").split("/")
    if root == "api" and steps:
        group, version, *rest = "", *steps
    elif root == "apis" and len(steps) > 1:
        group, version, *rest = steps
    else:
        raise unknown_path()
    namespace: str | None = None
    if len(rest) > 2 and rest[0] == NAMESPACE.plural and rest[2] not in _NAMESPACE_SUBRESOURCES:
        namespace, rest = rest[1], rest[2:]
    if not rest or len(rest) > 3 or not all(rest):
        raise unknown_path()
    plural, name, subresource = (*rest, "", "")[:3]
    kind = kinds.by_plural(group, version, plural)
    if kind is None or (namespace is not None and not kind.namespaced):
        raise unknown_path()
    if subresource and subresource not in kind.subresources:
        raise unknown_path()
    if name and kind.namespaced and namespace is None:
        raise unknown_path()
    return Target(kind, namespace, name, subresource)
