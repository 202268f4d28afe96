"""Which files a volume holds: pure functions of the API's objects, as the kubelet projects them."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from localcluster.node.environment import (
    MissingReferenceError,
    PodPlace,
    References,
    decode_secret,
    field_value,
    resource_value,
)

_DEFAULT_MODE = 0o644
_DEFAULT_TOKEN_SECONDS = 3600

# Kinds whose files come from the API; they are written to memory, swapped atomically, and read-only in containers.
PROJECTED_KINDS = ("secret", "configMap", "projected", "downwardAPI")


class VolumeError(Exception):
    """A volume cannot be made (yet); the text is fit for the event FailedMount."""


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """One file; its content may be a secret and is never shown."""

    content: bytes = field(repr=False)
    mode: int = _DEFAULT_MODE


@dataclass(frozen=True, slots=True)
class TokenSource:
    """A service account token that a volume asks for: "" is the API server's own audience."""

    audience: str
    expiration_seconds: int


Files = dict[str, VolumeFile]


def token_sources(volume: Mapping[str, Any]) -> list[TokenSource]:
    """The tokens that have to be requested before `volume_files` can answer."""
    sources = (volume.get("projected") or {}).get("sources") or ()
    return [_token_source(source["serviceAccountToken"]) for source in sources if source.get("serviceAccountToken")]


def _token_source(projection: Mapping[str, Any]) -> TokenSource:
    seconds = int(projection.get("expirationSeconds") or _DEFAULT_TOKEN_SECONDS)
    return TokenSource(projection.get("audience") or "", seconds)


def references_of(volume: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(resource, name) of every config map, secret or claim that the volume comes from."""
    found: set[tuple[str, str]] = set()
    if reference := volume.get("persistentVolumeClaim"):
        found.add(("persistentvolumeclaims", reference["claimName"]))
    for source in [volume, *((volume.get("projected") or {}).get("sources") or ())]:
        if reference := source.get("configMap"):
            found.add(("configmaps", reference["name"]))
        if reference := source.get("secret"):
            found.add(("secrets", reference.get("secretName") or reference.get("name", "")))
    return found


def volume_files(
    volume: Mapping[str, Any],
    pod: Mapping[str, Any],
    place: PodPlace,
    references: References,
    tokens: Mapping[TokenSource, str],
) -> Files:
    """Relative path -> file, of a volume of one of the PROJECTED_KINDS. Raises VolumeError for what does not exist."""
    try:
        if "configMap" in volume:
            source = volume["configMap"]
            return _config_map(pod, source, source.get("defaultMode"), references)
        if "secret" in volume:
            source = volume["secret"]
            return _secret(pod, source["secretName"], source, source.get("defaultMode"), references)
        if "downwardAPI" in volume:
            source = volume["downwardAPI"]
            return _downward(pod, source, source.get("defaultMode"), place)
        return _projected(pod, volume["projected"], place, references, tokens)
    except MissingReferenceError as error:
        raise VolumeError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}') from error


def _projected(
    pod: Mapping[str, Any],
    projected: Mapping[str, Any],
    place: PodPlace,
    references: References,
    tokens: Mapping[TokenSource, str],
) -> Files:
    mode = projected.get("defaultMode")
    files: Files = {}
    for source in projected.get("sources") or ():
        if part := source.get("configMap"):
            files |= _config_map(pod, part, mode, references)
        if part := source.get("secret"):
            files |= _secret(pod, part["name"], part, mode, references)
        if part := source.get("downwardAPI"):
            files |= _downward(pod, part, mode, place)
        if part := source.get("serviceAccountToken"):
            token = tokens[_token_source(part)]
            files[part["path"]] = VolumeFile(token.encode(), _mode(mode))
    return files


def _config_map(pod: Mapping[str, Any], source: Mapping[str, Any], mode: int | None, references: References) -> Files:
    found = references.config_map(pod["metadata"]["namespace"], source["name"])
    if found is None:
        if source.get("optional"):
            return {}
        raise MissingReferenceError(f'configmap "{source["name"]}" not found')
    contents = {key: value.encode() for key, value in (found.get("data") or {}).items()}
    contents |= {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
    return _select(contents, source, mode)


def _secret(
    pod: Mapping[str, Any], name: str, source: Mapping[str, Any], mode: int | None, references: References
) -> Files:
    found = references.secret(pod["metadata"]["namespace"], name)
    if found is None:
        if source.get("optional"):
            return {}
        raise MissingReferenceError(f'secret "{name}" not found')
    return _select(decode_secret(found), source, mode)


def _select(contents: Mapping[str, bytes], source: Mapping[str, Any], mode: int | None) -> Files:
    """All keys as files, or only those of `items`, under the paths given there."""
    items = source.get("items")
    if not items:
        return {key: VolumeFile(value, _mode(mode)) for key, value in contents.items()}
    files: Files = {}
    for item in items:
        if item["key"] in contents:
            files[item["path"]] = VolumeFile(contents[item["key"]], _mode(item.get("mode"), mode))
        elif not source.get("optional"):
            raise MissingReferenceError(f"references non-existent config key: {item['key']}")
    return files


def _downward(pod: Mapping[str, Any], source: Mapping[str, Any], mode: int | None, place: PodPlace) -> Files:
    files: Files = {}
    for item in source.get("items") or ():
        if reference := item.get("fieldRef"):
            text = field_value(pod, reference["fieldPath"], place)
        else:
            text = resource_value(pod, {"name": ""}, item["resourceFieldRef"], place)
        files[item["path"]] = VolumeFile(text.encode(), _mode(item.get("mode"), mode))
    return files


def _mode(*candidates: int | None) -> int:
    """The first mode that is given. 0 is one, too: a file that nobody may read."""
    return next((mode for mode in candidates if mode is not None), _DEFAULT_MODE)


def unsupported(volumes: Iterable[Mapping[str, Any]]) -> str | None:
    """The message for the first volume of a kind that this node does not have, or None."""
    known = {"name", "emptyDir", "hostPath", "persistentVolumeClaim", *PROJECTED_KINDS}
    for volume in volumes:
        for kind in volume.keys() - known:
            return (
                f'volume "{volume["name"]}": {kind} is not available on this node, which has emptyDir, hostPath, '
                "persistentVolumeClaim, configMap, secret, projected and downwardAPI"
            )
    return None
