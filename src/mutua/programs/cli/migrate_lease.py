"""One run at a time: a Lease in the namespace, renewed while the run lives, and free again when it ends or dies."""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Final

from mutua.errors import ConflictError
from mutua.system.kube import KubeClient, Object
from mutua.system.kube_errors import KubeConflictError, KubeError
from mutua.system.kube_resources import LEASES

NAME: Final = "mutua-migrate"
LEASE_SECONDS: Final = 10
RENEW_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.5


@contextlib.asynccontextmanager
async def held(kube: KubeClient, namespace: str, say: Callable[[str], None]) -> AsyncIterator[asyncio.Event]:
    """The lease, for the life of the block; the event is set if somebody else has taken it.

    Waits for one whose holder has died. Raises ConflictError while its holder lives, KubeError.
    """
    me = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    lost = asyncio.Event()
    await _take(kube, namespace, me, say)
    renewing = asyncio.create_task(_renew(kube, namespace, me, lost))
    try:
        yield lost
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with contextlib.suppress(KubeError):
            found = await kube.find(LEASES, NAME, namespace)
            if found and _holder(found) == me:
                await kube.replace(LEASES, _with(found, ""), namespace)


async def is_held(kube: KubeClient, namespace: str) -> bool:
    """Whether a run lives: its lease is renewed while we look. Raises KubeError.

    At the next renewal it is known; of one that has died only after LEASE_SECONDS, since clocks may differ.
    """
    began = time.monotonic()
    first = await kube.find(LEASES, NAME, namespace)
    found = first
    while found and first and _holder(found):
        if found["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]:
            return True
        if time.monotonic() - began > LEASE_SECONDS:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
        found = await kube.find(LEASES, NAME, namespace)
    return False


async def _take(kube: KubeClient, namespace: str, me: str, say: Callable[[str], None]) -> None:
    unchanged_since, version, told = time.monotonic(), "", False
    while True:
        found = await kube.find(LEASES, NAME, namespace)
        try:
            if found is None:
                metadata = {"name": NAME, "namespace": namespace}
                fresh = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
                await kube.create(LEASES, _with(fresh, me), namespace)
                return
            now = time.monotonic()
            if version and version != found["metadata"]["resourceVersion"]:
                raise ConflictError(
                    f"another run of `mutua migrate` is under way in {namespace}, by {_holder(found)}",
                    f"`mutua migrate status -n {namespace}` shows how far it is",
                )
            if not version:
                version, unchanged_since = found["metadata"]["resourceVersion"], now
            # Whoever holds it renews it; that nothing changes for so long is seen by our own clock alone.
            if not _holder(found) or now - unchanged_since > LEASE_SECONDS:
                await kube.replace(LEASES, _with(found, me), namespace)
                return
        except KubeConflictError:
            version = ""
            continue
        if not told:
            say(f"{_holder(found)} holds the lease; without a sign of life it is over within {LEASE_SECONDS} s")
            told = True
        await asyncio.sleep(_LOOK_SECONDS)


async def _renew(kube: KubeClient, namespace: str, me: str, lost: asyncio.Event) -> None:
    while not lost.is_set():
        await asyncio.sleep(RENEW_SECONDS)
        with contextlib.suppress(KubeError):  # what cannot be renewed now may be later; who takes it must wait
            found = await kube.find(LEASES, NAME, namespace)
            if found is None or _holder(found) != me:
                lost.set()
            else:
                await kube.replace(LEASES, _with(found, me), namespace)


def _holder(lease: Object) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def _with(lease: Object, holder: str) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = dict(lease.get("spec") or {})
    if holder != spec.get("holderIdentity"):
        spec |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
    spec |= {"holderIdentity": holder, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}
    return {**lease, "spec": spec}
