"""What the replicas of the control plane tell each other about policies on their proxies: a config map for each."""

from collections.abc import Callable

import msgspec

from mutua.programs.control_plane.settings import Settings
from mutua.reports.policy_status import held
from mutua.reports.policy_status.held import Report
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import CONFIG_MAPS, EventType

LABELS = {"mutua.io/report": "policy-status"}
KEY = "report.json"


class ReplicaReports:
    """`others` are the reports by pod. `changed` is called when one of them is another."""

    def __init__(self, kube: KubeClient, settings: Settings, changed: Callable[[], None]) -> None:
        self._kube = kube
        self._settings = settings
        self._changed = changed
        self._told = ""
        self.others: dict[str, Report] = {}

    async def tell(self, report: Report, pod_uid: str) -> None:
        """Write this replica's report, if it is news. It is gone with the pod. Raises KubeError."""
        text = held.encoded(report)
        if text == self._told:
            return
        name = self._settings.pod_name
        owner = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod_uid}
        metadata = {"name": f"mutua-policy-status-{name}", "labels": LABELS, "ownerReferences": [owner]}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KEY: text}}
        await self._kube.apply(CONFIG_MAPS, body, self._settings.namespace)
        self._told = text

    async def follow(self) -> None:
        """Reads what the others tell, until cancelled."""
        selector = ",".join(f"{name}={value}" for name, value in LABELS.items())
        async for event in self._kube.watch(CONFIG_MAPS, self._settings.namespace, label_selector=selector):
            if event.type is EventType.LISTED:
                self.others.clear()
            for raw in event.objects:
                found = msgspec.json.decode(raw, type=_ConfigMap)
                pod = next((owner.name for owner in found.metadata.owner_references), "")
                if event.type is EventType.DELETED:
                    self.others.pop(pod, None)
                elif pod and pod != self._settings.pod_name:
                    self.others[pod] = held.decoded((found.data or {}).get(KEY, ""))
            self._changed()


class _Owner(msgspec.Struct):
    name: str


class _Metadata(msgspec.Struct, rename="camel"):
    owner_references: tuple[_Owner, ...] = ()


class _ConfigMap(msgspec.Struct):
    metadata: _Metadata
    data: dict[str, str] | None = None
