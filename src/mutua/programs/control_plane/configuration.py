"""The mesh's settings as the installation left them in two config maps, followed while they change."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import yaml

from mutua.api import decode
from mutua.api.meshconfig import MeshConfig
from mutua.errors import MutuaError
from mutua.injection.configuration import injector_settings
from mutua.injection.settings import InjectorSettings
from mutua.programs.control_plane.settings import Settings
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import CONFIG_MAPS, EventType
from mutua.system.logs import Log

MESH_KEY = "mesh"
VALUES_KEY = "values"

_LOG = Log("configuration")


class Configuration(NamedTuple):
    """What holds for the whole mesh."""

    mesh: MeshConfig = MeshConfig()
    injector: InjectorSettings = InjectorSettings()

    @property
    def upstream_mark(self) -> int:
        """SO_MARK of Envoy's own sockets; 0 where they are exempt by uid."""
        return self.injector.upstream_mark if self.injector.exempt_by_mark else 0


class _ConfigMap(msgspec.Struct):
    data: dict[str, str] | None = None


class ConfigurationFollower:
    """Reads both config maps and follows them. What cannot be read is logged, and the last good value stays."""

    def __init__(self, kube: KubeClient, settings: Settings, version: str, changed: Callable[[], None]) -> None:
        self._kube = kube
        self._settings = settings
        self._version = version
        self._changed = changed
        self._mesh = MeshConfig()
        self._told: tuple[str, ...] = ()
        self._values: object = {}
        self.current = Configuration()

    async def load(self) -> Configuration:
        """Read once, before anything else starts. A config map that is not there counts as empty. Raises KubeError."""
        sources = self._sources()
        found = await asyncio.gather(
            *(self._kube.find(CONFIG_MAPS, name, self._settings.namespace) for name, _ in sources)
        )
        for (_, take), config_map in zip(sources, found, strict=True):
            take((config_map or {}).get("data") or {})
        self._compose()
        return self.current

    async def follow(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, take in self._sources():
                group.create_task(self._follow(name, take))

    def _sources(self) -> tuple[tuple[str, Callable[[dict[str, str]], None]], ...]:
        return (
            (self._settings.mesh_config_map, self._take_mesh),
            (self._settings.injector_config_map, self._take_values),
        )

    async def _follow(self, name: str, take: Callable[[dict[str, str]], None]) -> None:
        watch = self._kube.watch(CONFIG_MAPS, self._settings.namespace, field_selector=f"metadata.name={name}")
        async for event in watch:
            if event.type is EventType.DELETED:
                _LOG.warn("a config map of the mesh was deleted; its last content stays in force", config_map=name)
                continue
            for raw in event.objects:
                take(msgspec.json.decode(raw, type=_ConfigMap).data or {})
            before = self.current
            self._compose()
            if self.current != before:
                _LOG.info("configuration changed", config_map=name)
                self._changed()

    def _take_mesh(self, data: dict[str, str]) -> None:
        try:
            parsed = yaml.load(data.get(MESH_KEY, ""), yaml.CSafeLoader)
        except yaml.YAMLError as error:
            _LOG.error("the mesh config is not YAML; the last good one stays in force", error=str(error))
            return
        self._mesh, findings = decode.mesh_config(parsed)
        problems = tuple(f"mesh config: {finding.field}: {finding.message}" for finding in findings)
        for problem in problems if problems != self._told else ():
            _LOG.warn(problem)
        self._told = problems

    def _take_values(self, data: dict[str, str]) -> None:
        try:
            self._values = msgspec.json.decode(data.get(VALUES_KEY) or "{}")
        except msgspec.DecodeError as error:
            _LOG.error("the injector's values are not JSON; the last good ones stay in force", error=str(error))

    def _compose(self) -> None:
        try:
            injector = injector_settings(
                self._values if isinstance(self._values, dict) else {},
                self._mesh,
                namespace=self._settings.namespace,
                revision=self._settings.revision,
                version=self._version,
            )
        except MutuaError as error:
            _LOG.error("the injector's values cannot be used; the last good ones stay in force", error=error.message)
            injector = self.current.injector
        self.current = Configuration(self._mesh, injector)
