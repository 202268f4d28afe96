"""Services and their endpoint slices, brought together for DNS and for service addresses."""

from collections.abc import Callable, Mapping
from typing import Any

from localcluster.node.client_informer import Key, key_of
from localcluster.node.dns import ClusterNames, service_records
from localcluster.node.services import ServicePort, service_ports

_SERVICE_LABEL = "kubernetes.io/service-name"


class ServiceIndex:
    """Told of every change (as informers tell it); keeps `names` current and passes each service's ports on."""

    def __init__(self, on_ports: Callable[[str, str, tuple[ServicePort, ...]], None], node_address: str = "") -> None:
        self.names = ClusterNames()
        self._on_ports = on_ports
        self._node_address = node_address
        self._services: dict[Key, Mapping[str, Any]] = {}
        self._slices: dict[Key, dict[str, Mapping[str, Any]]] = {}

    def service_changed(self, _old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
        """A service came, changed or went."""
        key = key_of(new or _old or {})
        if new is None:
            self._services.pop(key, None)
        else:
            self._services[key] = new
        self._publish(key)

    def slice_changed(self, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
        """An endpoint slice came, changed or went."""
        before, after = _service_of(old), _service_of(new)
        if old is not None and before is not None:
            self._slices.get(before, {}).pop(old["metadata"]["name"], None)
            if not self._slices.get(before):
                self._slices.pop(before, None)
        if new is not None and after is not None:
            self._slices.setdefault(after, {})[new["metadata"]["name"]] = new
        for key in {before, after} - {None}:
            if key is not None:
                self._publish(key)

    def _publish(self, key: Key) -> None:
        service = self._services.get(key)
        if service is None:
            self.names.update(*key, None)
            self._on_ports(*key, ())
            return
        slices = list(self._slices.get(key, {}).values())
        self.names.update(*key, service_records(service, slices))
        self._on_ports(*key, service_ports(service, slices, self._node_address))


def _service_of(endpoint_slice: Mapping[str, Any] | None) -> Key | None:
    if endpoint_slice is None:
        return None
    metadata = endpoint_slice["metadata"]
    name = (metadata.get("labels") or {}).get(_SERVICE_LABEL)
    return (metadata["namespace"], name) if name else None
