"""Objects as the client asked to see them: whole, as metadata only, or as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from localcluster.apiserver.errors import BadRequestError
from localcluster.apiserver.http.negotiation import Wanted
from localcluster.apiserver.kinds import KindInfo

Object = dict[str, Any]

_INCLUDED = ("", "Metadata", "Object", "None")


def of_object(kind: KindInfo, object: Object, wanted: Wanted, include: str = "") -> Object:
    """One object in the wanted view."""
    match wanted.view:
        case "Table":
            return table(kind, [object], include, {"resourceVersion": object["metadata"].get("resourceVersion", "")})
        case "PartialObjectMetadata":
            return metadata_only(object)
    return object


def of_list(kind: KindInfo, objects: Sequence[Object], metadata: Object, wanted: Wanted, include: str = "") -> Object:
    """A list in the wanted view; `metadata` is the list's own (resourceVersion, continue, remainingItemCount)."""
    match wanted.view:
        case "Table":
            return table(kind, objects, include, metadata)
        case "PartialObjectMetadataList":
            items = [metadata_only(object) for object in objects]
            name, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
        case _:
            items, name, api_version = list(objects), kind.list_kind, kind.api_version
    return {"kind": name, "apiVersion": api_version, "metadata": metadata, "items": items}


def metadata_only(object: Object) -> Object:
    """`meta.k8s.io/v1 PartialObjectMetadata`."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]}


def table(kind: KindInfo, objects: Sequence[Object], include: str, metadata: Object) -> Object:
    """`meta.k8s.io/v1 Table`; each row holds its object whole, as metadata, or not, as `includeObject` says."""
    from localcluster.apiserver import tables

    if include not in _INCLUDED:
        raise BadRequestError(f"unrecognized includeObject value: {include!r}; it is one of Metadata, Object, None")
    shown: Object = tables.table(kind, list(objects), printer_columns(kind), datetime.now(UTC))
    for row, object in zip(shown["rows"], objects, strict=True):
        row.pop("object", None)
        if include != "None":
            row["object"] = object if include == "Object" else metadata_only(object)
    return {**shown, "metadata": metadata}


def printer_columns(kind: KindInfo) -> list[Object]:
    """A custom kind's additionalPrinterColumns at this version."""
    for version in kind.definition["spec"]["versions"] if kind.definition is not None else ():
        if version["name"] == kind.version:
            return list(version.get("additionalPrinterColumns") or ())
    return []
