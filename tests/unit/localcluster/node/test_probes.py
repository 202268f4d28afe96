"""When containers are asked, and what their answers add up to; time is a number."""

from localcluster.node.probes import ProbeSettings, begin, next_attempt, record, settings


def probe(kind: str = "readiness", **fields: object) -> ProbeSettings:
    found = settings({f"{kind}Probe": {"tcpSocket": {"port": 1}, **fields}}, kind)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_defaults_are_kubernetes() -> None:
    found = probe()
    assert (found.initial_delay, found.period, found.timeout) == (0, 10, 1)
    assert (found.success_threshold, found.failure_threshold) == (1, 3)
    assert settings({}, "liveness") is None


def test_readiness_is_asked_eagerly_until_its_first_success_then_once_a_period() -> None:
    readiness = probe(initialDelaySeconds=2)
    state = begin(readiness, 100.0)
    assert next_attempt(readiness, state, 100.0, 100.0) == 102.0
    state = record(readiness, state, False, 102.0)
    assert next_attempt(readiness, state, 100.0, 102.0) == 102.05
    state = record(readiness, state, True, 102.05)
    assert state.result is True
    assert next_attempt(readiness, state, 100.0, 102.05) == 112.0


def test_eager_attempts_never_count_as_failures() -> None:
    startup = probe("startup", failureThreshold=2)
    state = begin(startup, 0.0)
    for attempt in range(20):
        state = record(startup, state, False, attempt * 0.05)
    assert (state.failures, state.result) == (1, None)
    assert record(startup, state, False, 10.0).result is False


def test_eagerness_ends() -> None:
    readiness = probe(periodSeconds=30)
    state = record(readiness, begin(readiness, 0.0), False, 0.0)
    assert next_attempt(readiness, state, 0.0, 10.0) == 10.5
    state = record(readiness, state, False, 60.0)
    assert next_attempt(readiness, state, 0.0, 61.0) == 90.0


def test_liveness_keeps_to_its_period_and_needs_consecutive_failures() -> None:
    liveness = probe("liveness", periodSeconds=5)
    state = begin(liveness, 0.0)
    for asked_at, success in ((0.0, False), (5.0, False), (10.0, True), (15.0, False), (20.0, False)):
        assert next_attempt(liveness, state, 0.0, asked_at) == asked_at
        state = record(liveness, state, success, asked_at)
    assert state.result is True
    assert record(liveness, state, False, 25.0).result is False


def test_success_threshold() -> None:
    readiness = probe(successThreshold=2)
    state = record(readiness, begin(readiness, 0.0), True, 0.0)
    assert state.result is None
    assert record(readiness, state, True, 0.05).result is True
