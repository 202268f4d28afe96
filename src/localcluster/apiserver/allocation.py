"""Addresses and node ports for Services: who gets which, without two holding the same."""

from __future__ import annotations

import ipaddress
import secrets
from typing import Any

from localcluster.apiserver import errors
from localcluster.apiserver.errors import FieldError, InternalServerError, InvalidError
from localcluster.apiserver.kinds import SERVICE
from localcluster.apiserver.settings import Settings
from localcluster.apiserver.storage import Change, Store

Object = dict[str, Any]

_WITH_NODE_PORTS = ("NodePort", "LoadBalancer")
# Kubernetes leaves the first 256 addresses of a /16 to those who ask for a certain one (KEP-3070).
_STATIC_ADDRESSES = 256


class ServiceAllocator:
    """Fills in clusterIP(s) and nodePorts. What it handed out counts as used until released or deleted."""

    def __init__(self, store: Store, settings: Settings) -> None:
        """Learn what the stored Services use, and follow their deletion."""
        self._network = settings.service_network
        self._ports = range(settings.first_node_port, settings.last_node_port + 1)
        self._used: dict[str | int, str] = {}
        for (namespace, name), stored in store.entries(SERVICE.storage_key):
            self._hold(f"{namespace}/{name}", claims(stored.object()))
        store.on_change(self._follow)

    def _follow(self, change: Change) -> None:
        if change.resource != SERVICE.storage_key:
            return
        owner = f"{change.namespace}/{change.name}"
        now = set() if change.type == "DELETED" else claims(change.object())
        before = claims(dict(change.shared_previous)) if change.shared_previous else set()
        for claim in before - now:
            if self._used.get(claim) == owner:
                del self._used[claim]

    def _hold(self, owner: str, wanted: set[str | int]) -> None:
        for claim in wanted:
            self._used[claim] = owner

    def allocate(self, service: Object, old: Object | None) -> set[str | int]:
        """Complete `service` in place; returns what is newly held, to `release` if the write fails.

        InvalidError if it asks for an address or port that is taken or out of range.
        """
        spec = service.get("spec") or {}
        owner = f"{service['metadata'].get('namespace', '')}/{service['metadata']['name']}"
        before = claims(old) if old else set()
        held: set[str | int] = set()
        problems: list[FieldError] = []
        if spec.get("type", "ClusterIP") == "ExternalName":
            for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(name, None)
        else:
            self._address(spec, (old or {}).get("spec") or {}, before, held, problems)
        if spec.get("type") in _WITH_NODE_PORTS:
            self._node_ports(spec, (old or {}).get("spec") or {}, before, held, problems)
        if problems:
            raise InvalidError.of("Service", "", service["metadata"]["name"], problems)
        self._hold(owner, held)
        return held

    def release(self, held: set[str | int]) -> None:
        """Take back what a failed write holds."""
        for claim in held:
            self._used.pop(claim, None)

    def _address(
        self, spec: Object, old: Object, before: set[str | int], held: set[str | int], problems: list[FieldError]
    ) -> None:
        if not spec.get("clusterIP") and spec.get("clusterIPs"):
            spec["clusterIP"] = spec["clusterIPs"][0]
        if not spec.get("clusterIP") and old.get("clusterIP"):
            spec["clusterIP"] = old["clusterIP"]
        address = spec.get("clusterIP")
        if old.get("clusterIP") and address != old["clusterIP"] and old.get("type") != "ExternalName":
            problems.append(errors.invalid("spec.clusterIPs[0]", [address], "may not change once set"))
            return
        if not address:
            address = self._free_address()
            held.add(address)
        elif address != "None" and address not in before:
            problem = self._address_problem(address)
            if problem:
                problems.append(errors.invalid("spec.clusterIPs", [address], problem))
                return
            held.add(address)
        spec["clusterIP"] = address
        spec["clusterIPs"] = [address]
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")

    def _address_problem(self, address: str) -> str:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return "must be a valid IP address, 'None' or empty"
        if parsed not in self._network:
            return f"failed to allocate IP {address}: the provided IP is not in the valid range, {self._network}"
        if address in self._used:
            return f"failed to allocate IP {address}: provided IP is already allocated"
        return ""

    def _free_address(self) -> str:
        first, size = _STATIC_ADDRESSES, self._network.num_addresses - 1
        start = secrets.randbelow(size - first)
        for step in range(size - first):
            address = str(self._network[first + (start + step) % (size - first)])
            if address not in self._used:
                return address
        raise InternalServerError(f"every service address of {self._network} is taken")

    def _free_port(self, held: set[str | int]) -> int:
        """Any, as in Kubernetes: clusters side by side on one machine seldom ask the host for the same one."""
        free = [port for port in self._ports if port not in self._used and port not in held]
        if not free:
            raise InternalServerError("every node port is taken")
        return secrets.choice(free)

    def _node_ports(
        self, spec: Object, old: Object, before: set[str | int], held: set[str | int], problems: list[FieldError]
    ) -> None:
        known = {
            (port.get("protocol", "TCP"), port.get("port")): port.get("nodePort") for port in old.get("ports") or ()
        }
        for at, port in enumerate(spec.get("ports") or ()):
            wanted = port.get("nodePort") or known.get((port.get("protocol", "TCP"), port.get("port")))
            if wanted and wanted not in before:
                field = f"spec.ports[{at}].nodePort"
                if wanted not in self._ports:
                    valid = f"{self._ports.start}-{self._ports.stop - 1}"
                    problems.append(
                        errors.invalid(
                            field,
                            wanted,
                            f"provided port is not in the valid range. The range of valid ports is {valid}",
                        )
                    )
                    continue
                if wanted in self._used or wanted in held:
                    problems.append(errors.invalid(field, wanted, "provided port is already allocated"))
                    continue
                held.add(wanted)
            elif not wanted:
                wanted = self._free_port(held)
                held.add(wanted)
            port["nodePort"] = wanted


def claims(service: Object) -> set[str | int]:
    """The addresses and node ports that a Service holds."""
    spec = service.get("spec") or {}
    addresses: set[str | int] = {item for item in (spec.get("clusterIP"),) if item and item != "None"}
    return addresses | {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
