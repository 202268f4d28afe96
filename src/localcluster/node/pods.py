"""What is to be done next for a pod: a pure function of its spec and of what is known about its containers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

# The kubelet's restart back-off: at once, then 10 s doubling to 5 minutes; ten quiet minutes forget it.
_FIRST_BACKOFF_SECONDS = 10.0
_LONGEST_BACKOFF_SECONDS = 300.0
_FORGET_AFTER_SECONDS = 600.0
# How long ErrImagePull is shown before it becomes ImagePullBackOff.
_IMAGE_ERROR_SECONDS = 2.0

IMAGE_ERROR = "ErrImagePull"
IMAGE_BACKOFF = "ImagePullBackOff"
CONFIG_ERROR = "CreateContainerConfigError"
CRASH_BACKOFF = "CrashLoopBackOff"
CREATING = "ContainerCreating"
INITIALIZING = "PodInitializing"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not running: why."""

    reason: str = CREATING
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """Running since."""

    started_at: datetime


@dataclass(frozen=True, slots=True)
class Terminated:
    """Ended: `reason` is Completed, Error, StartError or Unknown."""

    exit_code: int
    reason: str
    started_at: datetime
    finished_at: datetime
    message: str = ""
    signal: int | None = None

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return (self.finished_at - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True)
class ContainerView:
    """What is known of one container.

    `retry_at` (event loop seconds) is when it may be started (again); None with a Terminated state: never again.
    `attempts` counts starts of this pod's life here, `restart_count` also those before the node's restart.
    `failures` are the restarts, or failed attempts to start, that the next back-off counts.
    """

    name: str
    state: Waiting | Running | Terminated = field(default_factory=Waiting)
    last: Terminated | None = None
    restart_count: int = 0
    attempts: int = 0
    failures: int = 0
    retry_at: float | None = 0.0
    starting: bool = False
    started: bool = False
    ready: bool = False

    @property
    def running(self) -> bool:
        """Whether its processes exist, or are just being made."""
        return isinstance(self.state, Running) or self.starting

    @property
    def over(self) -> bool:
        """Ended, never to be started again."""
        return isinstance(self.state, Terminated) and self.retry_at is None and not self.starting


@dataclass(frozen=True, slots=True)
class PodView:
    """What is known of one pod: whether its network and volumes are there, and each container by name.

    `failure` is the reason and the message if the pod as a whole has failed, whatever its containers do.
    """

    containers: Mapping[str, ContainerView]
    network_ready: bool = False
    volumes_ready: bool = False
    pod_ip: str = ""
    failure: tuple[str, str] | None = None

    def changed(self, container: ContainerView) -> "PodView":
        """The same pod with one container's view replaced."""
        return replace(self, containers={**self.containers, container.name: container})


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. `wake_at` (event loop seconds): ask again then, if nothing happens before."""

    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    wake_at: float | None = None


def init_containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The pod's init containers, sidecars included, in order."""
    return list(pod["spec"].get("initContainers") or ())


def ephemeral_containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The containers that were put into the running pod to look at it (`kubectl debug`)."""
    return list(pod["spec"].get("ephemeralContainers") or ())


def all_containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Init containers, then main containers, then ephemeral ones."""
    return [*init_containers(pod), *pod["spec"]["containers"], *ephemeral_containers(pod)]


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Whether an init container is a native sidecar (it keeps running beside the main containers)."""
    return container.get("restartPolicy") == "Always"


def restart_policy(pod: Mapping[str, Any], name: str) -> str:
    """Always, OnFailure or Never for one container. An init container that succeeded is never run again."""
    policy = str(pod["spec"].get("restartPolicy") or "Always")
    if any(container["name"] == name for container in ephemeral_containers(pod)):
        return "Never"
    for container in init_containers(pod):
        if container["name"] == name:
            if is_sidecar(container):
                return "Always"
            return "Never" if policy == "Never" else "OnFailure"
    return policy


def next_actions(pod: Mapping[str, Any], view: PodView, now: float) -> Plan:
    """What to start and stop, for a pod that is to run.

    Init containers run one after the other, each to its successful end; a sidecar among them counts as done once it
    has started (its startup probe succeeded), and is restarted for as long as the pod runs. Main containers start
    together after them. When all of those are over, or an init container has failed for good, what still runs is
    stopped, sidecars last and in reverse order.
    """
    if not (view.network_ready and view.volumes_ready):
        return Plan()
    if finished(pod, view):
        return Plan(stop=_last_running(pod, view))
    start: list[str] = []
    wake: list[float] = []

    def consider(container: ContainerView) -> None:
        if container.running or container.over or container.retry_at is None:
            return
        if container.retry_at <= now:
            start.append(container.name)
        else:
            wake.append(container.retry_at)

    mains = [view.containers[container["name"]] for container in pod["spec"]["containers"]]
    initialized = any(container.attempts for container in mains)
    blocked = False
    for container in init_containers(pod):
        known = view.containers[container["name"]]
        if is_sidecar(container):
            consider(known)
            blocked = not (known.started or initialized)
        elif not initialized and not _succeeded(known):
            consider(known)
            blocked = True
        if blocked:
            break
    if not blocked:
        for known in (*mains, *(view.containers[container["name"]] for container in ephemeral_containers(pod))):
            consider(known)
    return Plan(start=tuple(start), wake_at=min(wake, default=None))


def _succeeded(container: ContainerView) -> bool:
    return isinstance(container.state, Terminated) and container.state.exit_code == 0


def init_failed(pod: Mapping[str, Any], view: PodView) -> bool:
    """Whether an init container has failed for good (restartPolicy Never)."""
    for container in init_containers(pod):
        known = view.containers[container["name"]]
        if not is_sidecar(container) and known.over and not _succeeded(known):
            return True
    return False


def finished(pod: Mapping[str, Any], view: PodView) -> bool:
    """Whether the pod has done what it was for, or never can, or may not go on."""
    if view.failure is not None:
        return True
    mains = [view.containers[container["name"]] for container in pod["spec"]["containers"]]
    return init_failed(pod, view) or all(container.over for container in mains)


def _last_running(pod: Mapping[str, Any], view: PodView) -> tuple[str, ...]:
    others = [container["name"] for container in (*pod["spec"]["containers"], *ephemeral_containers(pod))]
    if running := tuple(name for name in others if view.containers[name].running):
        return running
    for container in reversed(init_containers(pod)):
        if view.containers[container["name"]].running:
            return (container["name"],)
    return ()


def after_change(container: ContainerView, terminated: Terminated, now: float) -> ContainerView:
    """The container's view after it was ended because its image is another one now: started again at once."""
    return replace(container, state=terminated, starting=False, started=False, ready=False, retry_at=now, failures=0)


def after_exit(pod: Mapping[str, Any], container: ContainerView, terminated: Terminated, now: float) -> ContainerView:
    """The container's view after its end: over, to be restarted at once, or in CrashLoopBackOff."""
    policy = restart_policy(pod, container.name)
    again = policy == "Always" or (policy == "OnFailure" and terminated.exit_code != 0)
    ended = replace(container, state=terminated, starting=False, started=False, ready=False, retry_at=None)
    if not again:
        return ended
    failures = 0 if terminated.seconds >= _FORGET_AFTER_SECONDS else container.failures
    delay = _backoff(failures)
    if not delay:
        return replace(ended, failures=failures + 1, retry_at=now)
    metadata = pod["metadata"]
    message = (
        f"back-off {_duration(delay)} restarting failed container={container.name} "
        f"pod={metadata['name']}_{metadata['namespace']}({metadata['uid']})"
    )
    return replace(
        ended,
        state=Waiting(CRASH_BACKOFF, message),
        last=terminated,
        failures=failures + 1,
        retry_at=now + delay,
    )


def after_start(container: ContainerView, started_at: datetime) -> ContainerView:
    """The container's view when its program runs. `started` and `ready` are the probes' to say."""
    last = container.state if isinstance(container.state, Terminated) else container.last
    restarts = container.restart_count + (1 if container.attempts else 0)
    return replace(
        container,
        state=Running(started_at),
        last=last,
        restart_count=restarts,
        attempts=container.attempts + 1,
        failures=container.failures if container.attempts else 0,
        starting=False,
        retry_at=None,
    )


def asked_nothing(spec: Mapping[str, Any], known: ContainerView) -> ContainerView:
    """Without probes (and hooks) a container is started and ready as soon as it runs."""
    if (spec.get("lifecycle") or {}).get("postStart") or spec.get("startupProbe"):
        return known
    return replace(known, started=True, ready=not spec.get("readinessProbe"))


def after_start_error(container: ContainerView, reason: str, message: str, now: float) -> ContainerView:
    """The container's view when it cannot be started for want of an image or of configuration; tried again later."""
    delay = _backoff(container.failures) or _IMAGE_ERROR_SECONDS
    if (
        reason == IMAGE_ERROR
        and isinstance(container.state, Waiting)
        and container.state.reason.endswith(("Pull", "Off"))
    ):
        reason = IMAGE_BACKOFF
    return replace(
        container,
        state=Waiting(reason, message),
        last=container.state if isinstance(container.state, Terminated) else container.last,
        failures=container.failures + 1,
        starting=False,
        retry_at=now + delay,
    )


def retry_now(view: PodView, reasons: tuple[str, ...], now: float) -> PodView:
    """The pod with every container that waits for one of `reasons` due at once: what it lacked may be there now."""
    for container in view.containers.values():
        if isinstance(container.state, Waiting) and container.state.reason in reasons:
            view = view.changed(replace(container, retry_at=now))
    return view


def _backoff(failures: int) -> float:
    if failures == 0:
        return 0.0
    return min(_FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 10), _LONGEST_BACKOFF_SECONDS)


def _duration(seconds: float) -> str:
    """Seconds as Go prints a duration: 10s, 1m20s, 5m0s."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
