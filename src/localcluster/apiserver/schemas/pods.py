"""Rules of pods and of pod templates. Source: k8s.io/kubernetes/pkg/apis/core/validation."""

from typing import Any

from localcluster.apiserver import errors
from localcluster.apiserver.documents import copied
from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.schemas import metadata
from localcluster.apiserver.schemas.containers import validate_containers
from localcluster.apiserver.schemas.names import label, subdomain

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_TOLERATION_OPERATORS = ("Equal", "Exists")
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_UPDATE_RULE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def validate(value: dict[str, Any], old: dict[str, Any] | None) -> list[FieldError]:
    """The violations in a pod, new or in the place of `old`."""
    found = validate_spec(value.get("spec") or {}, "spec")
    if old is not None and not found:
        found += _update(value.get("spec") or {}, old.get("spec") or {})
    return found


def validate_template(
    template: dict[str, Any], path: str, restart_policies: tuple[str, ...] = ("Always",)
) -> list[FieldError]:
    """The violations in a pod template whose controller runs pods with these restart policies only."""
    about = template.get("metadata") or {}
    spec = template.get("spec") or {}
    found = metadata.labels(about.get("labels"), f"{path}.metadata.labels")
    found += metadata.annotations(about.get("annotations"), f"{path}.metadata.annotations")
    found += validate_spec(spec, f"{path}.spec")
    policy = spec.get("restartPolicy")
    if policy in _RESTART_POLICIES and policy not in restart_policies:
        found.append(errors.not_supported(f"{path}.spec.restartPolicy", policy, restart_policies))
    return found


def validate_spec(spec: dict[str, Any], path: str) -> list[FieldError]:
    """The violations in a pod's specification."""
    found, volumes = _volumes(spec.get("volumes") or [], f"{path}.volumes")
    found += validate_containers(spec, volumes, path)
    policy = spec.get("restartPolicy")
    if policy is not None and policy not in _RESTART_POLICIES:
        found.append(errors.not_supported(f"{path}.restartPolicy", policy, _RESTART_POLICIES))
    dns_policy = spec.get("dnsPolicy")
    if dns_policy is not None and dns_policy not in _DNS_POLICIES:
        found.append(errors.not_supported(f"{path}.dnsPolicy", dns_policy, _DNS_POLICIES))
    if dns_policy == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        found.append(
            errors.required(
                f"{path}.dnsConfig.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None"
            )
        )
    for name, minimum in (("terminationGracePeriodSeconds", 0), ("activeDeadlineSeconds", 1)):
        seconds = spec.get(name)
        if seconds is not None and seconds < minimum:
            rule = (
                "must be greater than or equal to 0" if not minimum else "must be between 1 and 2147483647, inclusive"
            )
            found.append(errors.invalid(f"{path}.{name}", seconds, rule))
    for name in ("serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"):
        if spec.get(name):
            found += [errors.invalid(f"{path}.{name}", spec[name], problem) for problem in subdomain(spec[name])]
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            found += [errors.invalid(f"{path}.{name}", spec[name], problem) for problem in label(spec[name])]
    found += metadata.labels(spec.get("nodeSelector"), f"{path}.nodeSelector")
    return found + _tolerations(spec.get("tolerations") or [], f"{path}.tolerations")


def _volumes(volumes: list[dict[str, Any]], path: str) -> tuple[list[FieldError], set[str]]:
    found: list[FieldError] = []
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        here = f"{path}[{index}]"
        name = volume.get("name") or ""
        if not name:
            found.append(errors.required(f"{here}.name"))
        elif name in seen:
            found.append(errors.duplicate(f"{here}.name", name))
        else:
            found += [errors.invalid(f"{here}.name", name, problem) for problem in label(name)]
            seen.add(name)
        sources = [key for key in volume if key != "name"]
        if not sources:
            found.append(errors.required(here, "must specify a volume type"))
        found += [
            errors.forbidden(f"{here}.{extra}", "may not specify more than 1 volume type") for extra in sources[1:]
        ]
        found += _volume_source(volume, here)
    return found, seen


def _volume_source(volume: dict[str, Any], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for source, key in (("secret", "secretName"), ("configMap", "name")):
        if source in volume:
            if not volume[source].get(key):
                found.append(errors.required(f"{path}.{source}.{key}"))
            found += _mode(volume[source], f"{path}.{source}") + _items(volume[source], f"{path}.{source}")
    if "hostPath" in volume and not volume["hostPath"].get("path"):
        found.append(errors.required(f"{path}.hostPath.path"))
    if "projected" in volume:
        found += _mode(volume["projected"], f"{path}.projected")
        for index, source in enumerate(volume["projected"].get("sources") or []):
            found += _projection(source, f"{path}.projected.sources[{index}]")
    if "downwardAPI" in volume:
        found += _mode(volume["downwardAPI"], f"{path}.downwardAPI")
    return found


def _projection(source: dict[str, Any], path: str) -> list[FieldError]:
    found = [
        errors.forbidden(f"{path}.{extra}", "may not specify more than 1 volume type") for extra in list(source)[1:]
    ]
    for name in ("secret", "configMap"):
        if name in source:
            if not source[name].get("name"):
                found.append(errors.required(f"{path}.{name}.name"))
            found += _items(source[name], f"{path}.{name}")
    token = source.get("serviceAccountToken")
    if token is not None:
        seconds = token.get("expirationSeconds", 3600)
        if seconds < 600:
            found.append(
                errors.invalid(
                    f"{path}.serviceAccountToken.expirationSeconds",
                    seconds,
                    "may not specify a duration less than 10 minutes",
                )
            )
        if not token.get("path"):
            found.append(errors.required(f"{path}.serviceAccountToken.path"))
    return found


def _mode(source: dict[str, Any], path: str) -> list[FieldError]:
    mode = source.get("defaultMode")
    if mode is not None and not 0 <= mode <= 0o777:
        return [
            errors.invalid(f"{path}.defaultMode", mode, "must be a number between 0 and 0777 (octal), both inclusive")
        ]
    return []


def _items(source: dict[str, Any], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for index, item in enumerate(source.get("items") or []):
        here = f"{path}.items[{index}]"
        found += [errors.required(f"{here}.{name}") for name in ("key", "path") if not item.get(name)]
        target = item.get("path") or ""
        if target.startswith("/"):
            found.append(errors.invalid(f"{here}.path", target, "must be a relative path"))
        if ".." in target.split("/"):
            found.append(errors.invalid(f"{here}.path", target, "must not contain '..'"))
    return found


def _tolerations(tolerations: list[dict[str, Any]], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for index, toleration in enumerate(tolerations):
        here = f"{path}[{index}]"
        operator, effect = toleration.get("operator") or "Equal", toleration.get("effect")
        if operator not in _TOLERATION_OPERATORS:
            found.append(errors.not_supported(f"{here}.operator", operator, _TOLERATION_OPERATORS))
        elif operator == "Exists" and toleration.get("value"):
            found.append(
                errors.invalid(
                    f"{here}.operator", toleration["value"], "value must be empty when `operator` is 'Exists'"
                )
            )
        elif operator == "Equal" and not toleration.get("key"):
            found.append(errors.invalid(f"{here}.operator", operator, "operator must be Exists when `key` is empty"))
        if effect and effect not in _TAINT_EFFECTS:
            found.append(errors.not_supported(f"{here}.effect", effect, _TAINT_EFFECTS))
    return found


def _update(new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    """Everything but the few fields that may change must be equal."""
    comparable = copied(new)
    for group in ("containers", "initContainers"):
        mine, theirs = comparable.get(group) or [], old.get(group) or []
        if len(mine) != len(theirs):
            return [errors.forbidden(f"spec.{group}", "pod updates may not add or remove containers")]
        for container, before in zip(mine, theirs, strict=True):
            container["image"] = before.get("image")
    kept = old.get("tolerations") or []
    if all(toleration in (new.get("tolerations") or []) for toleration in kept):
        _copy(comparable, old, "tolerations")
    gates = old.get("schedulingGates") or []
    if all(gate in gates for gate in new.get("schedulingGates") or []):
        _copy(comparable, old, "schedulingGates")
    before, after = old.get("activeDeadlineSeconds"), new.get("activeDeadlineSeconds")
    if after is not None and (before is None or after <= before):
        _copy(comparable, old, "activeDeadlineSeconds")
    if (old.get("terminationGracePeriodSeconds") or 0) < 0 and new.get("terminationGracePeriodSeconds") == 1:
        _copy(comparable, old, "terminationGracePeriodSeconds")
    if comparable == old:
        return []
    changed = sorted(key for key in comparable.keys() | old.keys() if comparable.get(key) != old.get(key))
    return [errors.forbidden("spec", f"{_UPDATE_RULE}; changed: {', '.join(changed)}")]


def _copy(target: dict[str, Any], source: dict[str, Any], name: str) -> None:
    target.pop(name, None)
    if name in source:
        target[name] = source[name]
