"""Rules of containers: names, images, ports, environment, mounts, probes, resources."""

from typing import Any

from localcluster.apiserver import errors
from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.schemas import names, quantities

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_TERMINATION_MESSAGE_POLICIES = ("FallbackToLogsOnError", "File")
_SCHEMES = ("HTTP", "HTTPS")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
# Those of v1.PodSpec's downward API, without subscripts (`metadata.labels['app']`).
_FIELD_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_PROBE_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def validate_containers(spec: dict[str, Any], volumes: set[str], path: str) -> list[FieldError]:
    """The violations in `containers` and `initContainers` of a pod's specification with these volumes."""
    found: list[FieldError] = []
    seen: set[str] = set()
    if not spec.get("containers"):
        found.append(errors.required(f"{path}.containers"))
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group) or []):
            here = f"{path}.{group}[{index}]"
            found += _container(container, seen, volumes, here)
            if group == "initContainers" and container.get("restartPolicy") != "Always":
                found += [
                    errors.forbidden(
                        f"{here}.{name}", "may not be set for init containers without restartPolicy=Always"
                    )
                    for name in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
                    if container.get(name)
                ]
    return found


def _container(container: dict[str, Any], seen: set[str], volumes: set[str], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    name, image = container.get("name") or "", container.get("image") or ""
    if not name:
        found.append(errors.required(f"{path}.name"))
    elif name in seen:
        found.append(errors.duplicate(f"{path}.name", name))
    else:
        found += [errors.invalid(f"{path}.name", name, problem) for problem in names.label(name)]
    seen.add(name)
    if not image:
        found.append(errors.required(f"{path}.image"))
    elif image != image.strip():
        found.append(errors.invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    policy = container.get("imagePullPolicy")
    if policy is not None and policy not in _PULL_POLICIES:
        found.append(errors.not_supported(f"{path}.imagePullPolicy", policy, _PULL_POLICIES))
    message_policy = container.get("terminationMessagePolicy")
    if message_policy is not None and message_policy not in _TERMINATION_MESSAGE_POLICIES:
        found.append(
            errors.not_supported(f"{path}.terminationMessagePolicy", message_policy, _TERMINATION_MESSAGE_POLICIES)
        )
    found += _ports(container.get("ports") or [], f"{path}.ports")
    found += _environment(container, path)
    found += _mounts(container.get("volumeMounts") or [], volumes, f"{path}.volumeMounts")
    found += _resources(container.get("resources") or {}, f"{path}.resources")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(probe) is not None:
            found += _probe(container[probe], f"{path}.{probe}", single_success=probe != "readinessProbe")
    for hook in ("postStart", "preStop"):
        handler = (container.get("lifecycle") or {}).get(hook)
        if handler is not None:
            found += _handler(handler, f"{path}.lifecycle.{hook}")
    return found


def _ports(ports: list[dict[str, Any]], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        here = f"{path}[{index}]"
        name, protocol = port.get("name"), port.get("protocol")
        if name:
            problems = names.port_name(name)
            found += [errors.invalid(f"{here}.name", name, problem) for problem in problems]
            if not problems and name in seen:
                found.append(errors.duplicate(f"{here}.name", name))
            seen.add(name)
        if not port.get("containerPort"):
            found.append(errors.required(f"{here}.containerPort"))
        else:
            number = port["containerPort"]
            found += [errors.invalid(f"{here}.containerPort", number, problem) for problem in names.port_number(number)]
        if port.get("hostPort"):
            number = port["hostPort"]
            found += [errors.invalid(f"{here}.hostPort", number, problem) for problem in names.port_number(number)]
        if protocol is not None and protocol not in _PROTOCOLS:
            found.append(errors.not_supported(f"{here}.protocol", protocol, _PROTOCOLS))
    return found


def _environment(container: dict[str, Any], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for index, variable in enumerate(container.get("env") or []):
        here = f"{path}.env[{index}]"
        name = variable.get("name") or ""
        if not name:
            found.append(errors.required(f"{here}.name"))
        else:
            found += [errors.invalid(f"{here}.name", name, p) for p in names.environment_variable(name)]
        source = variable.get("valueFrom")
        if source is not None:
            found += _environment_source(source, bool(variable.get("value")), f"{here}.valueFrom")
    for index, source in enumerate(container.get("envFrom") or []):
        here = f"{path}.envFrom[{index}]"
        chosen = [name for name in ("configMapRef", "secretRef") if source.get(name) is not None]
        if not chosen:
            found.append(errors.invalid(here, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(chosen) > 1:
            found.append(errors.invalid(here, "", "may not have more than one field specified at a time"))
        else:
            found += [errors.required(f"{here}.{name}.name") for name in chosen if not source[name].get("name")]
    return found


def _environment_source(source: dict[str, Any], has_value: bool, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    if not source:
        found.append(
            errors.invalid(
                path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            )
        )
    elif has_value:
        found.append(errors.invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(source) > 1:
        found.append(errors.invalid(path, "", "may not have more than one field specified at a time"))
    field = source.get("fieldRef")
    if field is not None:
        field_path = field.get("fieldPath") or ""
        subscripted = field_path.startswith(("metadata.labels['", "metadata.annotations['"))
        if not field_path:
            found.append(errors.required(f"{path}.fieldRef.fieldPath"))
        elif not subscripted and field_path not in _FIELD_PATHS:
            found.append(errors.not_supported(f"{path}.fieldRef.fieldPath", field_path, _FIELD_PATHS))
    for name in ("configMapKeyRef", "secretKeyRef"):
        if source.get(name) is not None and not source[name].get("key"):
            found.append(errors.required(f"{path}.{name}.key"))
    return found


def _mounts(mounts: list[dict[str, Any]], volumes: set[str], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        here = f"{path}[{index}]"
        name, target, sub_path = mount.get("name") or "", mount.get("mountPath") or "", mount.get("subPath") or ""
        if not name:
            found.append(errors.required(f"{here}.name"))
        elif name not in volumes:
            found.append(errors.not_found(f"{here}.name", name))
        if not target:
            found.append(errors.required(f"{here}.mountPath"))
        elif target in seen:
            found.append(errors.invalid(f"{here}.mountPath", target, "must be unique"))
        seen.add(target)
        if sub_path.startswith("/"):
            found.append(errors.invalid(f"{here}.subPath", sub_path, "must be a relative path"))
        if ".." in sub_path.split("/"):
            found.append(errors.invalid(f"{here}.subPath", sub_path, "must not contain '..'"))
    return found


def _resources(resources: dict[str, Any], path: str) -> list[FieldError]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    found = [
        errors.invalid(f"{path}.{group}[{name}]", amount, "must be greater than or equal to 0")
        for group, amounts in (("limits", limits), ("requests", requests))
        for name, amount in amounts.items()
        if quantities.parse(amount) < 0
    ]
    for name, amount in requests.items():
        if name in limits and quantities.parse(amount) > quantities.parse(limits[name]):
            detail = f"must be less than or equal to {name} limit of {limits[name]}"
            found.append(errors.invalid(f"{path}.requests", amount, detail))
    return found


def _probe(probe: dict[str, Any], path: str, *, single_success: bool) -> list[FieldError]:
    found = _handler(probe, path)
    found += [
        errors.invalid(f"{path}.{name}", probe[name], "must be greater than or equal to 0")
        for name in _PROBE_NUMBERS
        if (probe.get(name) or 0) < 0
    ]
    if single_success and probe.get("successThreshold", 1) != 1:
        found.append(errors.invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    return found


def _handler(handler: dict[str, Any], path: str) -> list[FieldError]:
    chosen = [name for name in (*_HANDLERS, "sleep") if handler.get(name) is not None]
    if not chosen:
        return [errors.required(path, "must specify a handler type")]
    found = [errors.forbidden(f"{path}.{extra}", "may not specify more than 1 handler type") for extra in chosen[1:]]
    if "exec" in handler and not handler["exec"].get("command"):
        found.append(errors.required(f"{path}.exec.command"))
    for name in ("httpGet", "tcpSocket", "grpc"):
        if name in handler:
            found += _handler_port(handler[name].get("port"), f"{path}.{name}.port")
    if "httpGet" in handler:
        if not handler["httpGet"].get("path"):
            found.append(errors.required(f"{path}.httpGet.path"))
        scheme = handler["httpGet"].get("scheme")
        if scheme is not None and scheme not in _SCHEMES:
            found.append(errors.not_supported(f"{path}.httpGet.scheme", scheme, _SCHEMES))
    return found


def _handler_port(port: Any, path: str) -> list[FieldError]:
    problems = names.port_name(port) if isinstance(port, str) else names.port_number(port)
    return [errors.invalid(path, 0 if port is None else port, problem) for problem in problems]
