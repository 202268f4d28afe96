"""A container's command line and environment variables, as the kubelet composes them."""

import base64
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from lightkube.utils.quantity import parse_quantity

from localcluster.images import Image

# $(NAME) is a reference, $$ a literal dollar sign (k8s.io/kubernetes/third_party/forked/golang/expansion).
_REFERENCE = re.compile(r"\$(\$|\(([^()]*)\))")
_SUBSCRIPT = re.compile(r"^metadata\.(annotations|labels)\['(.*)'\]$")


class MissingReferenceError(Exception):
    """A container's configuration names an object, key or field that is not there; the text is the kubelet's."""


class References(Protocol):
    """Where what pods refer to is looked up. All return None for an object that does not exist."""

    def config_map(self, namespace: str, name: str) -> Mapping[str, Any] | None: ...

    def secret(self, namespace: str, name: str) -> Mapping[str, Any] | None: ...

    def claim(self, namespace: str, name: str) -> Mapping[str, Any] | None: ...

    def persistent_volume(self, name: str) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class PodPlace:
    """What a pod's fields and resources resolve to at run time: addresses, and the node's size."""

    pod_ip: str
    host_ip: str
    cpu_cores: int
    memory_bytes: int


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` with each $(NAME) replaced; unknown names stay as written, `$$` becomes `$`."""

    def replacement(match: re.Match[str]) -> str:
        if match.group(1) == "$":
            return "$"
        return variables.get(match.group(2), match.group(0))

    return _REFERENCE.sub(replacement, text)


def command_line(container: Mapping[str, Any], image: Image, variables: Mapping[str, str]) -> tuple[str, ...]:
    """The program and its arguments, $(NAME) replaced in the pod's `command` and `args`; empty if none is named."""
    return image.argv(
        tuple(expand(part, variables) for part in container.get("command") or ()),
        tuple(expand(part, variables) for part in container.get("args") or ()),
    )


def service_variables(
    services: Iterable[Mapping[str, Any]], namespace: str, *, service_links: bool = True
) -> dict[str, str]:
    """The `NAME_SERVICE_HOST`-style variables of the services that a pod in `namespace` sees.

    The `kubernetes` service of the namespace `default` is always there, as the kubelet does it; the pod's own
    namespace wins over it, and is left out altogether when `enableServiceLinks` is false.
    """
    visible: dict[str, Mapping[str, Any]] = {}
    for service in services:
        metadata = service["metadata"]
        if service.get("spec", {}).get("clusterIP", "None") in ("", "None"):
            continue
        name = metadata["name"]
        if metadata["namespace"] == namespace and service_links:
            visible[name] = service
        elif metadata["namespace"] == "default" and name == "kubernetes":
            visible.setdefault(name, service)
    variables: dict[str, str] = {}
    for name in sorted(visible):
        variables.update(_one_service(name, visible[name]["spec"]))
    return variables


def _one_service(name: str, spec: Mapping[str, Any]) -> dict[str, str]:
    prefix = name.upper().replace("-", "_")
    address = spec["clusterIP"]
    ports = spec.get("ports") or []
    if not ports:
        return {}
    variables = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            variables[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    for index, port in enumerate(ports):
        protocol = port.get("protocol", "TCP")
        url = f"{protocol.lower()}://{address}:{port['port']}"
        if index == 0:
            variables[f"{prefix}_PORT"] = url
        stem = f"{prefix}_PORT_{port['port']}_{protocol}"
        variables[stem] = url
        variables[f"{stem}_PROTO"] = protocol.lower()
        variables[f"{stem}_PORT"] = str(port["port"])
        variables[f"{stem}_ADDR"] = address
    return variables


def container_variables(
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    place: PodPlace,
    references: References,
    services: Mapping[str, str],
) -> dict[str, str]:
    """Every variable that the API gives a container (the image's own come below them, and are not in here).

    Order and precedence are the kubelet's (`makeEnvironmentVariables`): `envFrom`, then `env` with $(NAME) seeing
    earlier `env` and the service variables, then service variables whose names are still free.
    Raises MissingReferenceError when something that is not optional does not exist.
    """
    namespace = pod["metadata"]["namespace"]
    result: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        for key, text in _whole_source(source, namespace, references).items():
            name = f"{source.get('prefix') or ''}{key}"
            if name and "=" not in name:
                result[name] = text
    declared: dict[str, str] = {}
    for variable in container.get("env") or ():
        value: str | None
        if variable.get("valueFrom"):
            value = _value_from(pod, container, variable["valueFrom"], place, references)
            if value is None:
                continue
        else:
            value = expand(variable.get("value") or "", {**services, **declared})
        declared[variable["name"]] = value
        result[variable["name"]] = value
    for name, value in services.items():
        result.setdefault(name, value)
    return result


def decode_secret(secret: Mapping[str, Any]) -> dict[str, bytes]:
    """A secret's values as bytes."""
    return {key: base64.b64decode(value or "") for key, value in (secret.get("data") or {}).items()}


def _whole_source(source: Mapping[str, Any], namespace: str, references: References) -> dict[str, str]:
    for kind, field in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
        if reference := source.get(field):
            return dict(sorted((_contents(kind, namespace, reference, references) or {}).items()))
    return {}


def _contents(kind: str, namespace: str, reference: Mapping[str, Any], references: References) -> dict[str, str] | None:
    """The values of a config map or secret as text; None if it is optional and not there."""
    look_up = references.config_map if kind == "ConfigMap" else references.secret
    found = look_up(namespace, reference["name"])
    if found is None:
        if reference.get("optional"):
            return None
        raise MissingReferenceError(f'{kind.lower()} "{reference["name"]}" not found')
    if kind == "ConfigMap":
        return dict(found.get("data") or {})
    return {key: value.decode(errors="surrogateescape") for key, value in decode_secret(found).items()}


def _value_from(
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    source: Mapping[str, Any],
    place: PodPlace,
    references: References,
) -> str | None:
    """The value of one variable; None if its source is optional and not there."""
    if reference := source.get("fieldRef"):
        return field_value(pod, reference["fieldPath"], place)
    if reference := source.get("resourceFieldRef"):
        return resource_value(pod, container, reference, place)
    namespace = pod["metadata"]["namespace"]
    for kind, field in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        if reference := source.get(field):
            contents = _contents(kind, namespace, reference, references)
            key = reference["key"]
            if contents is not None and key in contents:
                return contents[key]
            if reference.get("optional"):
                return None
            raise MissingReferenceError(f"couldn't find key {key} in {kind} {namespace}/{reference['name']}")
    raise MissingReferenceError(f"valueFrom of a variable in container {container['name']} names no known source")


def field_value(pod: Mapping[str, Any], path: str, place: PodPlace) -> str:
    """The pod's field at `path` (downward API), as text. Raises MissingReferenceError for an unknown path."""
    metadata = pod["metadata"]
    if match := _SUBSCRIPT.match(path):
        return str((metadata.get(match.group(1)) or {}).get(match.group(2), ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata[path.removeprefix("metadata.")])
        case "metadata.labels" | "metadata.annotations":
            return _labels_text(metadata.get(path.removeprefix("metadata.")) or {})
        case "spec.nodeName" | "spec.serviceAccountName":
            return str(pod["spec"].get(path.removeprefix("spec."), ""))
        case "status.podIP" | "status.podIPs":
            return place.pod_ip
        case "status.hostIP" | "status.hostIPs":
            return place.host_ip
        case _:
            raise MissingReferenceError(f"unsupported fieldPath: {path}")


def _labels_text(labels: Mapping[str, str]) -> str:
    """`key="value"` lines, quoted as Go's %q does it (k8s.io/kubernetes/pkg/fieldpath.FormatMap)."""
    lines = []
    for key in sorted(labels):
        value = labels[key].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        lines.append(f'{key}="{value}"')
    return "\n".join(lines)


def resource_value(
    pod: Mapping[str, Any], container: Mapping[str, Any], reference: Mapping[str, Any], place: PodPlace
) -> str:
    """A container's limit or request in units of the divisor, rounded up; a limit that is not set is the node's size.

    Raises MissingReferenceError for an unknown container, resource or quantity.
    """
    target: Mapping[str, Any] = container
    if name := reference.get("containerName"):
        every = [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]
        found = next((candidate for candidate in every if candidate["name"] == name), None)
        if found is None:
            raise MissingReferenceError(f"container {name} not found")
        target = found
    kind, _, resource = str(reference["resource"]).partition(".")
    resources = target.get("resources") or {}
    amount = (resources.get(kind) or {}).get(resource)
    if amount is None and kind == "limits":
        amount = {"cpu": str(place.cpu_cores), "memory": str(place.memory_bytes)}.get(resource, "0")
    elif amount is None:
        amount = "0"
    divisor = str(reference.get("divisor") or "1")
    if divisor == "0":
        divisor = "1"
    try:
        quotient = (parse_quantity(str(amount)) or Decimal(0)) / (parse_quantity(divisor) or Decimal(1))
    except (ValueError, ArithmeticError) as error:
        raise MissingReferenceError(
            f"resource {reference['resource']} of container {target['name']}: {error}"
        ) from error
    return str(math.ceil(quotient))
