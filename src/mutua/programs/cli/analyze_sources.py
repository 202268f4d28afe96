"""What `mutua analyze` reads: a cluster's objects, manifests laid over them, and the mesh's settings."""

import asyncio
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

from mutua.analysis.checks import credentials
from mutua.analysis.checks.certificates import TLS_TYPE
from mutua.analysis.inputs import SYSTEM_NAMESPACES
from mutua.analysis.message import Subject
from mutua.api import decode, kinds
from mutua.api.findings import Finding
from mutua.api.kinds import AnyObject, Key, Kind
from mutua.api.meshconfig import MeshConfig
from mutua.api.networking import DestinationRule
from mutua.errors import InvalidInputError
from mutua.injection.configuration import injector_settings
from mutua.injection.settings import InjectorSettings
from mutua.mesh.objects import Change, ObjectSet
from mutua.programs.cli import common
from mutua.programs.cli.version import client_version
from mutua.sources import files, kubernetes
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeNotFoundError, KubeRefusedError
from mutua.system.kube_resources import CONFIG_MAPS

STANDARD_INPUT = "-"
_ISTIO = "istio.io"
_INSTALLATION = "install.istio.io"
_NOT_YET = "9999-12-31T23:59:59Z"


class Manifests(NamedTuple):
    """What files hold. `positions`: where each object begins, as `file:line`; `broken`: what could not be read."""

    changes: tuple[Change, ...] = ()
    unreadable: tuple[Finding, ...] = ()
    positions: dict[Subject, str] = {}  # noqa: RUF012 - never changed once made
    broken: tuple[str, ...] = ()


class Settings(NamedTuple):
    """What holds for the whole mesh."""

    mesh: MeshConfig = MeshConfig()
    injector: InjectorSettings = InjectorSettings()


def from_files(sources: Iterable[str], namespace: str) -> Manifests:
    """The objects of files, folders and standard input; those that name no namespace are put into the given one.

    What cannot be read is among `broken` and takes nothing else along. Kinds that nobody judges are left out.
    """
    changes: list[Change] = []
    unreadable: list[Finding] = []
    positions: dict[Subject, str] = {}
    broken: list[str] = []
    for name, text in _texts(sources, broken):
        documents, problems = files.located(text, name)
        broken += [problem.message for problem in problems]
        for document in documents:
            head = document.value
            if not isinstance(head, dict) or not head.get("kind") or not head.get("apiVersion"):
                broken.append(f"{name}:{document.line}: an object needs apiVersion and kind")
                continue
            kind = kinds.by_api_version(str(head["apiVersion"]), str(head["kind"]))
            if kind is None:
                _warn_of_istio(head, f"{name}:{document.line}")
                continue
            try:
                found = decode.from_mapping(kind, _placed(kind, head, namespace))
            except RecursionError:
                broken.append(f"{name}:{document.line}: is nested too deeply, or holds itself by an alias")
                continue
            unreadable += found.findings
            key = kind.key(found.value.metadata) if found.value is not None else _named(found.findings)
            if key[0] in SYSTEM_NAMESPACES:
                continue
            positions[Subject(kind.name, *key)] = f"{name}:{document.line}"
            if found.value is not None:
                changes.append(Change(kind, key, found.value))
    return Manifests(tuple(changes), tuple(unreadable), positions, tuple(broken))


def _warn_of_istio(head: dict[str, Any], place: str) -> None:
    """Whoever has a Telemetry or a WasmPlugin must not think that it does something here."""
    group = str(head["apiVersion"]).partition("/")[0]
    if group.endswith(f".{_ISTIO}") and group != _INSTALLATION:
        say_instead = ": the mesh config decides on metrics and logs" if head["kind"] == "Telemetry" else ""
        common.say(f"Warning: {place}: nothing reads the kind {head['kind']} of {group} here{say_instead}")


def dated(changes: Iterable[Change], there: ObjectSet) -> Iterator[Change]:
    """Manifests as they would be in the cluster: as old as the object that they change, else younger than all."""
    for kind, key, value in changes:
        if value is None or value.metadata.creation_timestamp:
            yield Change(kind, key, value)
            continue
        before = there.of_kind(kind).get(key)
        created = before.metadata.creation_timestamp if before is not None else _NOT_YET
        metadata = msgspec.structs.replace(value.metadata, creation_timestamp=created)
        yield Change(kind, key, msgspec.structs.replace(value, metadata=metadata))


async def from_cluster(
    kube: KubeClient, wanted: Iterable[Kind], istio_namespace: str = "istio-system"
) -> tuple[ObjectSet, tuple[Finding, ...]]:
    """All objects of these kinds, and what is wrong with those that cannot be read. Raises KubeError.

    Of config maps and secrets only those of the control plane are read, and secrets that hold certificates or that a
    DestinationRule names. A kind that is not installed, or that we have no right to read, counts as having no objects;
    the latter is said, and the set does not know that kind.
    """
    read = await asyncio.gather(*(_of_kind(kube, kind, istio_namespace) for kind in wanted))
    objects = {kind.name: found for kind, found, _ in read if found is not None}
    secrets = objects.get(kinds.SECRET.name)
    if secrets is not None:
        rules = objects.get(kinds.DESTINATION_RULE.name, {}).values()
        named = {key for rule in rules if isinstance(rule, DestinationRule) for key in credentials.of_rule(rule)}
        for namespace, name in sorted(named - secrets.keys()):
            secret = await kube.find(kubernetes.resource(kinds.SECRET), name, namespace)
            decoded = decode.from_mapping(kinds.SECRET, secret) if secret is not None else None
            if decoded is not None and decoded.value is not None:
                secrets[namespace, name] = decoded.value
    return ObjectSet(objects), tuple(finding for _, _, findings in read for finding in findings)


async def settings_of(kube: KubeClient, istio_namespace: str) -> Settings:
    """The mesh's settings as the installation left them; defaults where there is none. Raises KubeError."""
    mesh_map, values_map = await asyncio.gather(
        kube.find(CONFIG_MAPS, "istio", istio_namespace),
        kube.find(CONFIG_MAPS, "istio-sidecar-injector", istio_namespace),
    )
    mesh_text = str(((mesh_map or {}).get("data") or {}).get("mesh", ""))
    values_text = str(((values_map or {}).get("data") or {}).get("values", "{}"))
    mesh = read_mesh_config(mesh_text, "config map istio")
    values = msgspec.json.decode(values_text or "{}")
    injector = injector_settings(values, mesh, namespace=istio_namespace, version=client_version())
    return Settings(mesh, injector)


def read_mesh_config(text: str, name: str) -> MeshConfig:
    """The mesh config of a YAML text. Raises InvalidInputError."""
    try:
        parsed: Any = yaml.load(text, yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise InvalidInputError(f"{name} is not YAML: {error}") from error
    config, findings = decode.mesh_config(parsed)
    for finding in findings:
        common.say(f"Warning: {name}: {finding.field}: {finding.message}")
    return config


def _texts(sources: Iterable[str], broken: list[str]) -> Iterable[tuple[str, str]]:
    for source in sources:
        if source == STANDARD_INPUT:
            yield STANDARD_INPUT, sys.stdin.read()
            continue
        path = Path(source)
        if not path.exists():
            raise InvalidInputError(f"{source} does not exist", "name a file, a folder, or - for standard input")
        for found in files.expand([path]):
            if found.suffix not in files.SUFFIXES:
                common.say(f"Skipping file {found}, recognized file extensions are: [.json .yaml .yml]")
                continue
            try:
                yield str(found), files.read_text(found)
            except InvalidInputError as error:
                broken.append(error.message)


def _placed(kind: Kind, document: dict[str, Any], namespace: str) -> dict[str, Any]:
    metadata = document.get("metadata")
    if not namespace or not kind.namespaced or not isinstance(metadata, dict) or metadata.get("namespace"):
        return document
    return document | {"metadata": metadata | {"namespace": namespace}}


def _named(findings: Iterable[Finding]) -> Key:
    return next(((finding.namespace, finding.name) for finding in findings), ("", ""))


async def _of_kind(
    kube: KubeClient, kind: Kind, istio_namespace: str
) -> tuple[Kind, dict[Key, AnyObject] | None, tuple[Finding, ...]]:
    """The objects of one kind, None if they may not be read, and what is wrong with them."""
    resource = kubernetes.resource(kind)
    raw_objects: list[msgspec.Raw] = []
    try:
        if kind in (kinds.CONFIG_MAP, kinds.SECRET):
            raw_objects += (await kube.list_raw(resource, istio_namespace)).objects
        if kind is kinds.SECRET:
            raw_objects += (await kube.list_raw(resource, field_selector=f"type={TLS_TYPE}")).objects
        elif kind is not kinds.CONFIG_MAP:
            raw_objects += (await kube.list_raw(resource)).objects
    except KubeNotFoundError:
        return kind, {}, ()
    except KubeRefusedError as error:
        common.say(f"Warning: {error.message}; treated as if there were none")
        return kind, None, ()
    objects: dict[Key, AnyObject] = {}
    problems: list[Finding] = []
    for raw in raw_objects:
        value, findings = kubernetes.read(kind, raw)
        problems += findings
        if value is not None:
            objects[kind.key(value.metadata)] = value
    return kind, objects, tuple(problems)
