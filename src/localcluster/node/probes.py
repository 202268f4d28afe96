"""When a container is asked how it is, and what its answers add up to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

ProbeKind = Literal["startup", "readiness", "liveness"]

# Until the first success, a probe is tried more often than its period: pods become ready within milliseconds of being
# so, instead of up to a period later. Kubernetes allows it (the period is a promise to ask at least that often), and
# the extra attempts never count as failures. A command is dearer than a connection, so it is tried less often.
_EAGER_SECONDS = 0.05
_EAGER_COMMAND_SECONDS = 0.2
_EAGER_FOR_SECONDS = 5.0
_LESS_EAGER_SECONDS = 0.5
_LESS_EAGER_FOR_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """One probe of the API, with its defaults filled in. Seconds and counts."""

    kind: ProbeKind
    handler: Mapping[str, Any]
    initial_delay: float
    period: float
    timeout: float
    success_threshold: int
    failure_threshold: int
    grace_period: float | None

    @property
    def is_command(self) -> bool:
        """Whether asking starts a process."""
        return "exec" in self.handler


def settings(container: Mapping[str, Any], kind: ProbeKind) -> ProbeSettings | None:
    """The container's probe of this kind, or None."""
    probe = container.get(f"{kind}Probe")
    if not probe:
        return None
    return ProbeSettings(
        kind=kind,
        handler=probe,
        initial_delay=float(probe.get("initialDelaySeconds") or 0),
        period=float(probe.get("periodSeconds") or 10),
        timeout=float(probe.get("timeoutSeconds") or 1),
        success_threshold=int(probe.get("successThreshold") or 1),
        failure_threshold=int(probe.get("failureThreshold") or 3),
        grace_period=probe.get("terminationGracePeriodSeconds"),
    )


@dataclass(frozen=True, slots=True)
class ProbeState:
    """What a probe's answers so far add up to. `result` None: nothing is decided yet."""

    result: bool | None = None
    successes: int = 0
    failures: int = 0
    next_counted: float = 0.0


def begin(probe: ProbeSettings, now: float) -> ProbeState:
    """The state of a probe whose container started at `now` (event loop seconds)."""
    return ProbeState(next_counted=now + probe.initial_delay)


def record(probe: ProbeSettings, state: ProbeState, success: bool, asked_at: float) -> ProbeState:
    """The state after one answer to a question asked at `asked_at`.

    Thresholds count consecutive answers; failures count once a period at most.
    """
    counted = asked_at >= state.next_counted
    following = asked_at + probe.period if counted else state.next_counted
    if success:
        successes = state.successes + 1
        result = True if successes >= probe.success_threshold else state.result
        return replace(state, result=result, successes=successes, failures=0, next_counted=following)
    failures = state.failures + 1 if counted else state.failures
    result = False if failures >= probe.failure_threshold else state.result
    return replace(state, result=result, successes=0, failures=failures, next_counted=following)


def next_attempt(probe: ProbeSettings, state: ProbeState, started_at: float, now: float) -> float:
    """When to ask next (event loop seconds), for a container that started at `started_at`."""
    if state.result is True or probe.kind == "liveness":
        return state.next_counted
    waited = now - started_at - probe.initial_delay
    if waited < 0:
        return state.next_counted
    eager = _EAGER_SECONDS if waited < _EAGER_FOR_SECONDS else _LESS_EAGER_SECONDS
    if probe.is_command:
        eager = max(eager, _EAGER_COMMAND_SECONDS)
    if waited >= _LESS_EAGER_FOR_SECONDS:
        return state.next_counted
    return min(now + eager, state.next_counted)
