"""Pods from templates: what every controller that makes pods copies, and how templates are told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from localcluster.apiserver import kinds
from localcluster.apiserver.documents import copied
from localcluster.apiserver.kinds import KindInfo
from localcluster.controllers.state import owner_reference
from localcluster.controllers.writes import Create

Object = dict[str, Any]

# Without vowels and look-alikes, so that no hash is a word: apimachinery/pkg/util/rand.
_SAFE_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_HASH_LENGTH = 10


def new_pod(
    kind: KindInfo,
    owner: Object,
    template: Object,
    *,
    name: str = "",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    finalizers: tuple[str, ...] = (),
) -> Object:
    """The pod that `owner` (of `kind`) makes from `template`; without `name` the server finds one after the owner's."""
    about, given = owner["metadata"], copied(template.get("metadata") or {})
    metadata: Object = {
        "labels": {**(given.get("labels") or {}), **(labels or {})},
        "annotations": {**(given.get("annotations") or {}), **(annotations or {})},
        "finalizers": [*(given.get("finalizers") or ()), *finalizers],
    }
    metadata = {field: value for field, value in metadata.items() if value}
    metadata |= {"name": name} if name else {"generateName": f"{about['name']}-"}
    metadata |= {"namespace": about["namespace"], "ownerReferences": [owner_reference(kind, owner)]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copied(template.get("spec") or {})}


def creation(pod: Object) -> Create:
    """The write that creates a pod."""
    return Create(kinds.POD, pod)


def content_hash(content: Any, collisions: int = 0) -> str:
    """The label value that tells templates of one owner apart; `collisions` gives another one."""
    encoded = msgspec.json.encode([content, collisions], order="deterministic")
    digest = hashlib.sha256(encoded).digest()
    return "".join(_SAFE_LETTERS[byte % len(_SAFE_LETTERS)] for byte in digest[:_HASH_LENGTH])
