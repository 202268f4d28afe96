"""What the proofs are played with: the guide's namespace and applications, running and ready."""

import asyncio

import msgspec

from mutua.errors import UnavailableError
from mutua.programs.demo.stage import NAMESPACE, Stage
from mutua.system.kube_resources import PODS, EventType

READY_WITHIN_SECONDS = 60.0


async def prepare(stage: Stage) -> None:
    """Creates the namespace and the applications, waits until every pod is ready, and for the first answer.

    Raises UnavailableError naming what is not ready.
    """
    await stage.apply("namespace")
    await stage.apply("applications")
    stage.narrator.step(f"namespace {NAMESPACE} (istio-injection: enabled), frontend ×2, backend ×2, legacy-client")
    await _ready(stage)
    stage.narrator.step("pods are ready, sidecars injected")
    answer, _ = await stage.until(lambda each: each.status == 200, lambda: stage.request("frontend"))
    stage.narrator.step(f"first request over mutual TLS: frontend → backend: {answer}")


EXPECTED = {"frontend": 2, "backend": 2, "legacy-client": 1}


class _Condition(msgspec.Struct, frozen=True):
    type: str
    status: str


class _Status(msgspec.Struct, frozen=True):
    conditions: tuple[_Condition, ...] = ()


class _Metadata(msgspec.Struct, frozen=True):
    name: str
    labels: dict[str, str] = {}


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata
    status: _Status = _Status()

    @property
    def is_ready(self) -> bool:
        return any(each.type == "Ready" and each.status == "True" for each in self.status.conditions)


async def _ready(stage: Stage) -> None:
    ready: dict[str, str] = {}
    try:
        async with asyncio.timeout(READY_WITHIN_SECONDS):
            async for event in stage.kube.watch(PODS, NAMESPACE):
                for raw in event.objects:
                    pod = msgspec.json.decode(raw, type=_Pod)
                    ready.pop(pod.metadata.name, None)
                    if pod.is_ready and event.type is not EventType.DELETED:
                        ready[pod.metadata.name] = pod.metadata.labels.get("app", "")
                if all(list(ready.values()).count(app) >= count for app, count in EXPECTED.items()):
                    return
    except TimeoutError:
        raise UnavailableError(
            f"after {READY_WITHIN_SECONDS:.0f} s only these pods are ready: {', '.join(sorted(ready)) or 'none'}",
            "run it with --keep, and look with: kubectl get pods -A; kubectl describe pods -n secure-apps",
        ) from None
