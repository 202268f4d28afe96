"""Installation settings as users write them: a profile, IstioOperator files and `--set path=value`, merged."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
import yaml

from mutua.api import decode
from mutua.api.meshconfig import MeshConfig
from mutua.errors import InvalidInputError

Tree = dict[str, Any]

OLDEST_MINOR = 28
"""Of Kubernetes 1."""

OPERATOR_API_VERSION = "install.istio.io/v1alpha1"
OPERATOR_KIND = "IstioOperator"

_DEFAULT: Tree = {
    "hub": "mutua",
    "components": {"base": {"enabled": True}, "pilot": {"enabled": True}},
    "meshConfig": {"accessLogFile": "", "defaultConfig": {}},
    "values": {
        "global": {
            "istioNamespace": "istio-system",
            "platform": "",
            "imagePullPolicy": "",
            "imagePullSecrets": [],
            "meshID": "",
            "network": "",
            "multiCluster": {"clusterName": "Kubernetes"},
            "proxy": {
                "image": "proxyv2",
                "clusterDomain": "cluster.local",
                "logLevel": "warning",
                "componentLogLevel": "misc:error",
                "includeInboundPorts": "*",
                "excludeInboundPorts": "",
                "includeOutboundPorts": "",
                "excludeOutboundPorts": "",
                "includeIPRanges": "*",
                "excludeIPRanges": "",
                "statusPort": 15020,
                "readinessInitialDelaySeconds": 0,
                "readinessPeriodSeconds": 15,
                "readinessFailureThreshold": 4,
                "holdApplicationUntilProxyStarts": False,
                "exemptBy": "uid",
                "upstreamMark": 1337,
                "resources": {
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                    "limits": {"cpu": "2000m", "memory": "1024Mi"},
                },
            },
        },
        "pilot": {
            "image": "pilot",
            "replicaCount": 1,
            "env": {},
            "resources": {"requests": {"cpu": "500m", "memory": "2048Mi"}},
        },
        "sidecarInjectorWebhook": {
            "enableNamespacesByDefault": False,
            "neverInjectSelector": [],
            "alwaysInjectSelector": [],
            "rewriteAppHTTPProbe": True,
        },
    },
}

# What each profile changes of the default. Source: Istio's installation profiles, the parts that exist here.
PROFILES: Mapping[str, Tree] = {
    "default": {},
    "demo": {
        "meshConfig": {"accessLogFile": "/dev/stdout"},
        "values": {
            "global": {"proxy": {"resources": {"requests": {"cpu": "10m", "memory": "40Mi"}}}},
            "pilot": {"resources": {"requests": {"cpu": "10m", "memory": "100Mi"}}},
        },
    },
    "minimal": {},
    "empty": {"components": {"base": {"enabled": False}, "pilot": {"enabled": False}}},
}


# What a kind of cluster needs. Source: the idea of Istio's `values.global.platform`.
PLATFORMS: Mapping[str, Tree] = {
    "": {},
    # Where one uid may be all there is, Envoy's own sockets are told apart by a mark.
    "local": {"values": {"global": {"proxy": {"exemptBy": "mark"}}}},
}
_LOCAL_SERVER = "+localcluster"


def too_old(server_version: str) -> str:
    """Why a cluster of that version is not fit for the mesh; "" if it is, or if the version says nothing."""
    parts = server_version.lstrip("v").split(".")
    if len(parts) > 1 and parts[1].isdecimal() and (parts[0], int(parts[1])) < ("1", OLDEST_MINOR):
        return f"Kubernetes {server_version} is older than 1.{OLDEST_MINOR}"
    return ""


def platform_of(server_version: str) -> str:
    """The platform behind an API server's version, as in `v1.33.0+localcluster`."""
    return "local" if server_version.endswith(_LOCAL_SERVER) else ""


def resolve(operators: Iterable[Tree] = (), settings: Iterable[str] = (), platform: str = "") -> Tree:
    """The whole settings tree: defaults, platform, profile, IstioOperator specs in order, then `--set` in order.

    `platform` is what the cluster is found to be; `values.global.platform` overrides it. Raises InvalidInputError
    naming the setting.
    """
    own = chosen(operators, settings)
    profile = str(own.get("profile") or "default")
    if profile not in PROFILES:
        raise InvalidInputError(f"profile {profile!r} does not exist", f"profiles are {', '.join(PROFILES)}")
    wanted = str(_at(own, ("values", "global", "platform")) or platform)
    base = merge(_DEFAULT, PLATFORMS.get(wanted, {}))
    tree = merge(merge(base, PROFILES[profile]), own)
    tree["profile"] = profile
    return tree


def chosen(operators: Iterable[Tree], settings: Iterable[str]) -> Tree:
    """What the user wrote, merged. Raises InvalidInputError naming the setting."""
    own: Tree = {}
    for operator in operators:
        own = merge(own, operator)
    for setting in settings:
        own = merge(own, parse_setting(setting))
    return own


def unknown(own: Tree) -> tuple[str, ...]:
    """Paths of what the user wrote that nothing here reads: misspelt, or of a part of Istio that is not here."""
    return tuple(sorted(_unknown(own, _KNOWN, "")))


def _unknown(tree: Mapping[str, Any], known: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, value in tree.items():
        here = f"{path}.{key}" if path else key
        if key not in known:
            yield here
        elif isinstance(value, Mapping) and isinstance(known[key], Mapping) and known[key]:
            yield from _unknown(value, known[key], here)


def _at(tree: Mapping[str, Any], keys: Iterable[str]) -> Any:
    value: Any = tree
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def parse_setting(text: str) -> Tree:
    """`values.global.proxy.exemptBy=mark` as a tree; the value is read as YAML. `\\.` stands for a dot within a name.

    Raises InvalidInputError.
    """
    path, equals, value = text.partition("=")
    keys = [part.replace("\0", ".") for part in path.replace("\\.", "\0").split(".")]
    if not equals or not all(keys):
        raise InvalidInputError(
            f"--set {text!r} is not of the form path=value", "for example --set meshConfig.accessLogFile=/dev/stdout"
        )
    tree: Any = _scalar(value, text)
    for key in reversed(keys):
        if key.endswith("]"):
            raise InvalidInputError(f"--set {text!r}: single entries of a list cannot be set", "use a file with -f")
        tree = {key: tree}
    return dict(tree)


def operator_spec(document: object, name: str) -> Tree:
    """The `spec` of one IstioOperator document of file `name`. Raises InvalidInputError."""
    if not isinstance(document, dict) or document.get("kind") != OPERATOR_KIND:
        raise InvalidInputError(
            f"{name} holds something else than an {OPERATOR_KIND}", "apply other objects by kubectl"
        )
    if document.get("apiVersion") != OPERATOR_API_VERSION:
        version = document.get("apiVersion")
        raise InvalidInputError(f"{name}: apiVersion {version!r} is not known", f"write {OPERATOR_API_VERSION}")
    spec = document.get("spec") or {}
    if not isinstance(spec, dict):
        raise InvalidInputError(f"{name}: spec is not a mapping")
    metadata = document.get("metadata") or {}
    if namespace := metadata.get("namespace"):
        return merge({"values": {"global": {"istioNamespace": namespace}}}, spec)
    return spec


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tree:
    """A deep copy of `below` with the leaves of `above` on top; lists are replaced."""
    merged = copy.deepcopy(dict(below))
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = (
            merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else copy.deepcopy(value)
        )
    return merged


def _known() -> Tree:
    """Every setting that is read. An empty mapping stands for one whose keys are the user's own."""
    mesh = {field.encode_name: None for field in msgspec.structs.fields(MeshConfig)}
    shared = {"tag": None, "hub": None, "proxy": {"nativeSidecar": None}}
    more: Tree = {
        **dict.fromkeys(("profile", "revision", "tag", "hub", "namespace")),
        "meshConfig": mesh,
        "values": {
            "revision": None,
            "global": shared,
            "pilot": {"env": {}, "resources": {}},
            "sidecarInjectorWebhook": {"policy": None},
        },
    }
    known = merge(_DEFAULT, more)
    known["values"]["pilot"] |= {"resources": {}, "env": {}}
    return known


_KNOWN: Final = _known()


class Installation(msgspec.Struct, frozen=True):
    """What the manifests are made from; read from the tree, with the types checked."""

    namespace: str
    hub: str
    tag: str
    revision: str
    pilot_image: str
    image_pull_policy: str
    image_pull_secrets: tuple[str, ...]
    replicas: int
    environment: dict[str, str]
    resources: dict[str, Any]
    cluster_id: str
    base_enabled: bool
    pilot_enabled: bool
    inject_by_default_everywhere: bool
    mesh_config: Tree
    values: Tree
    tree: Tree
    chosen: Tree = {}
    """What the user wrote of it, which an upgrade keeps."""

    @property
    def name_suffix(self) -> str:
        """What tells the objects of a revision from those of others; "" for the default one."""
        return "" if self.revision == "default" else f"-{self.revision}"

    @property
    def pilot(self) -> str:
        """The control plane's image."""
        return self.pilot_image if "/" in self.pilot_image else f"{self.hub}/{self.pilot_image}:{self.tag}"


def wanted(own: Tree, version: str, platform: str = "") -> Installation:
    """What the user wrote (`chosen`), over profile, platform and defaults of this version. Raises InvalidInputError."""
    made = installation(resolve([own], (), platform), version)
    _demand_log_format(made.mesh_config)
    return msgspec.structs.replace(made, chosen=own)


def _demand_log_format(mesh_config: Tree) -> None:
    """Istio would hand on what Envoy refuses, and no sidecar would get a listener."""
    _, findings = decode.mesh_config(mesh_config)
    for finding in findings:
        if finding.field == "accessLogFormat":
            raise InvalidInputError(
                f"meshConfig.accessLogFormat: {finding.message}", "docs/telemetry.md says what is taken"
            )


def installation(tree: Tree, version: str) -> Installation:
    """The typed settings; `version` is the tag where none was chosen. Raises InvalidInputError naming the path."""
    read = _Reader(tree)
    hub = read.text("values.global.hub") or read.text("hub")
    tag = read.text("values.global.tag") or read.text("tag") or version
    namespace = read.text("values.global.istioNamespace")
    trees = merge(tree["values"], {"global": {"hub": hub, "tag": tag}})
    exempt_by = read.text("values.global.proxy.exemptBy")
    if exempt_by not in ("uid", "mark"):
        raise InvalidInputError(f"values.global.proxy.exemptBy: {exempt_by!r} is not known", "write uid or mark")
    return Installation(
        namespace=namespace,
        hub=hub,
        tag=tag,
        revision=read.text("revision") or read.text("values.revision") or "default",
        pilot_image=read.text("values.pilot.image"),
        image_pull_policy=read.text("values.global.imagePullPolicy"),
        image_pull_secrets=read.names("values.global.imagePullSecrets"),
        replicas=read.whole_number("values.pilot.replicaCount"),
        environment={name: _word(value) for name, value in read.mapping("values.pilot.env").items()},
        resources=read.mapping("values.pilot.resources"),
        cluster_id=read.text("values.global.multiCluster.clusterName"),
        base_enabled=read.boolean("components.base.enabled"),
        pilot_enabled=read.boolean("components.pilot.enabled"),
        inject_by_default_everywhere=read.boolean("values.sidecarInjectorWebhook.enableNamespacesByDefault"),
        mesh_config={"rootNamespace": namespace, "trustDomain": "cluster.local"} | read.mapping("meshConfig"),
        values=trees,
        tree=tree,
    )


class _Reader:
    """Typed look-ups by dotted path."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def _find(self, path: str) -> Any:
        value: Any = self._tree
        for key in path.split("."):
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    def text(self, path: str) -> str:
        value = self._find(path)
        if isinstance(value, (dict, list)):
            raise InvalidInputError(f"{path}: expected text, got {type(value).__name__}")
        return "" if value is None else _word(value)

    def boolean(self, path: str) -> bool:
        value = self._find(path)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise InvalidInputError(f"{path}: expected true or false, got {value!r}")
        return value

    def whole_number(self, path: str) -> int:
        value = self._find(path)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InvalidInputError(f"{path}: expected a whole number, got {value!r}")
        return value

    def names(self, path: str) -> tuple[str, ...]:
        value = self._find(path) or []
        if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
            raise InvalidInputError(f"{path}: expected a list of names, got {value!r}", "write it as [NAME, NAME]")
        return tuple(value)

    def mapping(self, path: str) -> Tree:
        value = self._find(path)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidInputError(f"{path}: expected a mapping, got {value!r}")
        return value


def _scalar(value: str, setting: str) -> Any:
    try:
        return yaml.safe_load(value) if value else ""
    except yaml.YAMLError as error:
        raise InvalidInputError(f"--set {setting!r}: the value is not YAML", "put it in quotes") from error


def _word(value: object) -> str:
    """A scalar as Kubernetes wants text: true, not True."""
    return str(value).lower() if isinstance(value, bool) else str(value)
