"""Pods that have just gone: what they did last is told after they went, under an address that is nobody's any more."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.workloads import Workload

REMEMBERED_FOR: Final = timedelta(minutes=1)


class Departed(msgspec.Struct, frozen=True):
    """By address: the pod that had it last, and until when that is remembered."""

    pods: Mapping[str, tuple[Workload, datetime]] = msgspec.field(default_factory=dict)

    def find(self, address: str, now: datetime) -> Workload | None:
        """The pod that had the address until a moment ago."""
        found = self.pods.get(address)
        return found[0] if found and now < found[1] else None

    def after(self, before: MeshSnapshot, current: MeshSnapshot, now: datetime) -> "Departed":
        """With those that went between two snapshots; without those that went long ago."""
        old, new = before.parts.registry, current.parts.registry
        if old.workload_keys is new.workload_keys:
            return self
        kept = {address: entry for address, entry in self.pods.items() if now < entry[1]}
        until = now + REMEMBERED_FOR
        for address in old.workload_keys.keys() - new.workload_keys.keys():
            workload = old.find(address)
            if workload is not None:
                kept[address] = (workload, until)
        return Departed(kept)
