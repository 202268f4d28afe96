"""What a pod does next, as states in and actions out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from localcluster.node.pods import (
    CRASH_BACKOFF,
    IMAGE_BACKOFF,
    IMAGE_ERROR,
    ContainerView,
    Plan,
    PodView,
    Running,
    Terminated,
    Waiting,
    after_change,
    after_exit,
    after_start,
    after_start_error,
    finished,
    next_actions,
    retry_now,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def pod(*, init: list[dict[str, Any]] | None = None, policy: str = "Always") -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {
            "restartPolicy": policy,
            "initContainers": init or [],
            "containers": [{"name": "one"}, {"name": "two"}],
        },
    }


def ended(code: int, seconds: float = 1.0) -> Terminated:
    return Terminated(code, "Completed" if code == 0 else "Error", NOW, NOW + timedelta(seconds=seconds))


def running(name: str, *, started: bool = True) -> ContainerView:
    return replace(after_start(ContainerView(name), NOW), started=started, ready=started)


def over(name: str, code: int) -> ContainerView:
    return replace(running(name), state=ended(code), retry_at=None, ready=False, started=False)


def view(*containers: ContainerView, ready: bool = True) -> PodView:
    return PodView({item.name: item for item in containers}, network_ready=ready, volumes_ready=ready)


FIRST, SIDE, LAST = {"name": "first"}, {"name": "side", "restartPolicy": "Always"}, {"name": "last"}
FRESH = [ContainerView(name) for name in ("first", "side", "last", "one", "two")]


def test_nothing_starts_before_network_and_volumes() -> None:
    assert next_actions(pod(), view(*FRESH, ready=False), 0.0) == Plan()


def test_main_containers_start_together() -> None:
    assert next_actions(pod(), view(*FRESH), 0.0).start == ("one", "two")


@pytest.mark.parametrize(
    ("states", "start"),
    [
        ([], ("first",)),
        ([running("first")], ()),
        ([over("first", 0)], ("side",)),
        ([over("first", 0), running("side", started=False)], ()),
        ([over("first", 0), running("side")], ("last",)),
        ([over("first", 0), running("side"), over("last", 0)], ("one", "two")),
    ],
)
def test_init_containers_run_in_order_and_sidecars_only_have_to_start(
    states: list[ContainerView], start: tuple[str, ...]
) -> None:
    known = view(*FRESH)
    for state in states:
        known = known.changed(state)
    assert next_actions(pod(init=[FIRST, SIDE, LAST]), known, 0.0).start == start


def test_a_sidecar_that_dies_is_restarted_while_the_pod_runs() -> None:
    dead = replace(running("side"), state=ended(1), started=False, retry_at=0.0)
    known = view(over("first", 0), dead, over("last", 0), running("one"), running("two"))
    assert next_actions(pod(init=[FIRST, SIDE, LAST]), known, 0.0).start == ("side",)


def test_when_the_main_containers_are_over_sidecars_stop_in_reverse_order() -> None:
    spec = pod(init=[{**SIDE, "name": "a"}, {**SIDE, "name": "b"}], policy="Never")
    done = view(running("a"), running("b"), over("one", 0), over("two", 0))
    assert next_actions(spec, done, 0.0) == Plan(stop=("b",))
    assert next_actions(spec, done.changed(over("b", 0)), 0.0) == Plan(stop=("a",))


def test_an_init_container_that_fails_for_good_ends_the_pod() -> None:
    spec = pod(init=[SIDE, FIRST], policy="Never")
    known = view(running("side"), over("first", 3), ContainerView("one"), ContainerView("two"))
    assert finished(spec, known)
    assert next_actions(spec, known, 0.0) == Plan(stop=("side",))


def test_the_first_restart_is_immediate_then_the_delay_doubles_to_five_minutes() -> None:
    container, delays = running("one"), []
    for _ in range(9):
        container = after_exit(pod(), container, ended(1), 100.0)
        assert container.retry_at is not None
        delays.append(container.retry_at - 100.0)
        container = after_start(container, NOW)
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300, 300]
    assert container.restart_count == 9


def test_ten_quiet_minutes_forget_earlier_failures() -> None:
    container = replace(running("one"), failures=5)
    assert after_exit(pod(), container, ended(1, seconds=700), 100.0).retry_at == 100.0


def test_the_backoff_says_what_it_waits_for_and_keeps_how_the_container_ended() -> None:
    crashed = after_exit(pod(), replace(running("one"), failures=3), ended(7), 0.0)
    assert crashed.state == Waiting(CRASH_BACKOFF, "back-off 40s restarting failed container=one pod=p_n(u)")
    assert crashed.last == ended(7)
    plan = next_actions(pod(), view(crashed, running("two")), 0.0)
    assert plan == Plan(wake_at=40.0)
    assert next_actions(pod(), view(crashed, running("two")), 40.0).start == ("one",)


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 0, False), ("Never", 1, False)],
)
def test_restart_policies(policy: str, code: int, again: bool) -> None:
    after = after_exit(pod(policy=policy), running("one"), ended(code), 5.0)
    assert (after.retry_at == 5.0) is again
    assert after.over is not again


def test_an_unknown_image_is_an_error_first_and_a_backoff_then_and_due_when_images_change() -> None:
    waiting = after_start_error(ContainerView("one"), IMAGE_ERROR, "no image", 0.0)
    assert waiting.state == Waiting(IMAGE_ERROR, "no image")
    again = after_start_error(waiting, IMAGE_ERROR, "no image", 2.0)
    assert again.state == Waiting(IMAGE_BACKOFF, "no image")
    assert again.retry_at == 12.0
    due = retry_now(view(again, running("two")), (IMAGE_ERROR, IMAGE_BACKOFF), 3.0)
    assert next_actions(pod(), due, 3.0).start == ("one",)


def test_a_started_container_forgets_that_its_image_was_missing() -> None:
    waited = replace(ContainerView("one"), failures=6)
    started = after_start(waited, NOW)
    assert started.state == Running(NOW)
    assert (started.failures, started.restart_count) == (0, 0)


def looked_into(**rest: Any) -> dict[str, Any]:
    found = pod(**rest)
    found["spec"]["ephemeralContainers"] = [{"name": "look"}]
    return found


def test_ephemeral_containers_start_beside_running_ones_and_never_again() -> None:
    both = (running("one"), running("two"))

    assert next_actions(looked_into(), view(*both, ContainerView("look")), 0.0) == Plan(start=("look",))
    assert next_actions(looked_into(), view(*both, over("look", 1)), 0.0) == Plan()
    left = after_exit(looked_into(), running("look"), ended(1), 0.0)
    assert left.over


def test_ephemeral_containers_do_not_hold_up_the_end_of_their_pod() -> None:
    known = view(over("one", 0), over("two", 0), running("look"))

    assert next_actions(looked_into(policy="Never"), known, 0.0) == Plan(stop=("look",))


def test_a_pod_that_has_failed_as_a_whole_stops_everything() -> None:
    known = replace(view(running("one"), running("two")), failure=("DeadlineExceeded", "too long"))

    assert finished(pod(), known)
    assert next_actions(pod(), known, 0.0) == Plan(stop=("one", "two"))


def test_another_image_starts_a_container_again_at_once_whatever_the_policy() -> None:
    found = after_change(running("one"), ended(137), 5.0)

    assert next_actions(pod(policy="Never"), view(found, running("two")), 5.0) == Plan(start=("one",))
