"""Rules of ConfigMaps and Secrets. Source: k8s.io/kubernetes/pkg/apis/core/validation."""

import base64
import json
from typing import Any

from localcluster.apiserver import errors
from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.schemas import names

_MAXIMUM_BYTES = 1024 * 1024
_REQUIRED_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
_JSON_KEYS = (".dockerconfigjson", ".dockercfg")


def validate_config_map(value: dict[str, Any], old: dict[str, Any] | None) -> list[FieldError]:
    """The violations in a ConfigMap, new or in the place of `old`."""
    text, binary = value.get("data") or {}, value.get("binaryData") or {}
    found = _keys(text, "data") + _keys(binary, "binaryData")
    found += [
        errors.invalid(f"data[{key}]", key, "duplicate of key present in binaryData") for key in text if key in binary
    ]
    size = sum(len(v.encode()) for v in text.values()) + sum(len(base64.b64decode(v)) for v in binary.values())
    if size > _MAXIMUM_BYTES:
        found.append(errors.too_long("", _MAXIMUM_BYTES))
    return found + _immutable(value, old, ("data", "binaryData"))


def validate_secret(value: dict[str, Any], old: dict[str, Any] | None) -> list[FieldError]:
    """The violations in a Secret, new or in the place of `old`. No message holds a value of `data`."""
    entries, kind = value.get("data") or {}, value.get("type") or "Opaque"
    found = _keys(entries, "data")
    if sum(len(base64.b64decode(text)) for text in entries.values()) > _MAXIMUM_BYTES:
        found.append(errors.too_long("data", _MAXIMUM_BYTES))
    for key in _REQUIRED_KEYS.get(kind, ()):
        if key not in entries:
            found.append(errors.required(f"data[{key}]"))
        elif key in _JSON_KEYS and not _is_json(base64.b64decode(entries[key])):
            found.append(errors.invalid(f"data[{key}]", "<secret contents redacted>", "must be valid JSON"))
    if kind == "kubernetes.io/service-account-token":
        annotations = (value.get("metadata") or {}).get("annotations") or {}
        if not annotations.get("kubernetes.io/service-account.name"):
            found.append(errors.required("metadata.annotations[kubernetes.io/service-account.name]"))
    if old is not None and kind != (old.get("type") or "Opaque"):
        found.append(errors.invalid("type", kind, "field is immutable"))
    return found + _immutable(value, old, ("data",))


def _keys(entries: dict[str, str], path: str) -> list[FieldError]:
    return [errors.invalid(f"{path}[{key}]", key, problem) for key in entries for problem in names.config_key(key)]


def _immutable(value: dict[str, Any], old: dict[str, Any] | None, fields: tuple[str, ...]) -> list[FieldError]:
    if old is None or not old.get("immutable"):
        return []
    detail = "field is immutable when `immutable` is set"
    found = [errors.forbidden(name, detail) for name in fields if value.get(name) != old.get(name)]
    if not value.get("immutable"):
        found.append(errors.forbidden("immutable", detail))
    return found


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True
