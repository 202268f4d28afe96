"""Rules of Services, Endpoints and EndpointSlices. Source: k8s.io/kubernetes/pkg/apis/{core,discovery}/validation."""

import ipaddress
from typing import Any

from localcluster.apiserver import errors
from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.schemas import metadata, names

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")


def validate(value: dict[str, Any], old: dict[str, Any] | None) -> list[FieldError]:
    """The violations in a Service, new or in the place of `old`."""
    spec: dict[str, Any] = value.get("spec") or {}
    kind = spec.get("type") or "ClusterIP"
    found: list[FieldError] = []
    if kind not in _TYPES:
        found.append(errors.not_supported("spec.type", kind, _TYPES))
    ports = spec.get("ports") or []
    if not ports and spec.get("clusterIP") != "None" and kind != "ExternalName":
        found.append(errors.required("spec.ports"))
    found += _ports(ports)
    found += metadata.labels(spec.get("selector"), "spec.selector")
    if spec.get("sessionAffinity", "None") not in ("ClientIP", "None"):
        found.append(errors.not_supported("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None")))
    if kind == "ExternalName":
        target = (spec.get("externalName") or "").removesuffix(".")
        if not target:
            found.append(errors.required("spec.externalName"))
        else:
            found += [errors.invalid("spec.externalName", target, problem) for problem in names.subdomain(target)]
        if spec.get("clusterIP"):
            detail = "may not be set when `type` is 'ExternalName'"
            found.append(errors.forbidden("spec.clusterIP", detail))
    else:
        found += _cluster_address(spec.get("clusterIP"), "spec.clusterIP")
    if old is not None:
        found += _address_kept(spec, old.get("spec") or {}, kind)
    return found


def validate_endpoints(value: dict[str, Any]) -> list[FieldError]:
    """The violations in an Endpoints object."""
    found: list[FieldError] = []
    for index, subset in enumerate(value.get("subsets") or []):
        here = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            found.append(errors.required(here, "must specify `addresses` or `notReadyAddresses`"))
        for group in ("addresses", "notReadyAddresses"):
            for at, address in enumerate(subset.get(group) or []):
                found += _address(address.get("ip"), f"{here}.{group}[{at}].ip")
        for at, port in enumerate(subset.get("ports") or []):
            path = f"{here}.ports[{at}]"
            found += [
                errors.invalid(f"{path}.port", port.get("port", 0), p) for p in names.port_number(port.get("port"))
            ]
            if len(subset["ports"]) > 1 and not port.get("name"):
                found.append(errors.required(f"{path}.name"))
    return found


def validate_slice(value: dict[str, Any], old: dict[str, Any] | None) -> list[FieldError]:
    """The violations in an EndpointSlice."""
    kind = value.get("addressType")
    found: list[FieldError] = []
    if not kind:
        found.append(errors.required("addressType"))
    elif kind not in _ADDRESS_TYPES:
        found.append(errors.not_supported("addressType", kind, _ADDRESS_TYPES))
    if old is not None and kind != old.get("addressType"):
        found.append(errors.invalid("addressType", kind, "field is immutable"))
    for index, endpoint in enumerate(value.get("endpoints") or []):
        here = f"endpoints[{index}].addresses"
        if not endpoint.get("addresses"):
            found.append(errors.required(here, "must contain at least 1 address"))
        if kind in ("IPv4", "IPv6"):
            for at, address in enumerate(endpoint.get("addresses") or []):
                found += _address(address, f"{here}[{at}]")
    seen: set[str] = set()
    for index, port in enumerate(value.get("ports") or []):
        name = port.get("name") or ""
        if name in seen:
            found.append(errors.duplicate(f"ports[{index}].name", name))
        seen.add(name)
    return found


def _ports(ports: list[dict[str, Any]]) -> list[FieldError]:
    found: list[FieldError] = []
    seen_names: set[str] = set()
    seen_ports: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        here = f"spec.ports[{index}]"
        name, number, protocol = port.get("name") or "", port.get("port"), port.get("protocol") or "TCP"
        if not name:
            if len(ports) > 1:
                found.append(errors.required(f"{here}.name"))
        else:
            found += [errors.invalid(f"{here}.name", name, problem) for problem in names.label(name)]
            if name in seen_names:
                found.append(errors.duplicate(f"{here}.name", name))
            seen_names.add(name)
        problems = names.port_number(number)
        found += [errors.invalid(f"{here}.port", number or 0, problem) for problem in problems]
        if protocol not in _PROTOCOLS:
            found.append(errors.not_supported(f"{here}.protocol", protocol, _PROTOCOLS))
        target = port.get("targetPort")
        if target is not None:
            rule = names.port_name(target) if isinstance(target, str) else names.port_number(target)
            found += [errors.invalid(f"{here}.targetPort", target, problem) for problem in rule]
        if not problems and (number, protocol) in seen_ports:
            found.append(errors.duplicate(here, {"protocol": protocol, "port": number}))
        seen_ports.add((number, protocol))
    return found


def _cluster_address(address: str | None, path: str) -> list[FieldError]:
    return [] if address in (None, "", "None") else _address(address, path)


def _address(address: Any, path: str) -> list[FieldError]:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        shown = address if isinstance(address, str) else ""
        return [errors.invalid(path, shown, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    return []


def _address_kept(spec: dict[str, Any], old: dict[str, Any], kind: str) -> list[FieldError]:
    """A service keeps its address for as long as it has one; only ExternalName gives it up."""
    before, after = old.get("clusterIP"), spec.get("clusterIP")
    if not before or kind == "ExternalName" or old.get("type") == "ExternalName" or before == after:
        return []
    shown = [after] if after else []
    return [errors.invalid("spec.clusterIPs[0]", shown, "may not change once set")]
