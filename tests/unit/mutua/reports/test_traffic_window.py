"""Rates and locks come from counters: what was added between reads, and never a closed lock over plaintext."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.dashboard_mesh import edge
from mutua.reports import traffic_window
from mutua.reports.traffic import EdgeTraffic
from mutua.reports.traffic_window import Counts, Flow, Lock, Window


def after(*reads: tuple[float, list[EdgeTraffic]], seconds: float = 60) -> list[Flow]:
    """The flows after reads at these moments."""
    window = Window(seconds)
    for at, edges in reads:
        window = traffic_window.observe(window, at, edges)
    return list(traffic_window.flows(window).values())


def read(mutual_tls: int, plaintext: int = 0, **more: int) -> list[EdgeTraffic]:
    """One edge's counters."""
    return [edge("shop/a", "shop/b", mutual_tls, plaintext, **more)]


def test_a_rate_is_what_was_added_over_the_time_between_reads() -> None:
    (flow,) = after((100, read(50)), (105, read(60)), (110, read(80, errors=5)))

    assert (flow.recent.mutual_tls, flow.recent.errors, flow.recent_seconds) == (30, 5, 10)
    assert flow.total.mutual_tls == 80


def test_after_one_read_no_rate_is_known_but_the_lock_is() -> None:
    (flow,) = after((100, read(50)))

    assert flow.recent_seconds == 0
    assert flow.lock is Lock.CLOSED


@pytest.mark.parametrize(
    ("mutual_tls", "plaintext", "refused", "lock"),
    [
        (1000, 0, 0, Lock.CLOSED),
        (1000, 1, 0, Lock.PART),
        (0, 7, 0, Lock.OPEN),
        (0, 0, 3, Lock.REFUSED),
        (1000, 0, 3, Lock.CLOSED),
        (0, 0, 0, Lock.QUIET),
    ],
)
def test_the_lock_is_closed_over_mutual_tls_alone(mutual_tls: int, plaintext: int, refused: int, lock: Lock) -> None:
    (flow,) = after((0, read(0)), (5, read(mutual_tls, plaintext, refused=refused)))

    assert flow.lock is lock


def test_plaintext_of_before_anybody_looked_opens_the_lock_until_a_window_has_passed_without() -> None:
    locks = []
    window = Window(60)
    for step in range(15):
        window = traffic_window.observe(window, 5.0 * step, read(10 * step, 1))
        (flow,) = traffic_window.flows(window).values()
        locks.append(flow.lock)

    # Reads at 0 … 55 seconds lie less than a window after the first one, which saw the plaintext.
    assert locks == [Lock.OPEN] + [Lock.PART] * 11 + [Lock.CLOSED] * 3


def test_when_plaintext_was_last_seen_is_told_in_seconds() -> None:
    (flow,) = after((0, read(0)), (5, read(1, 1)), (10, read(2, 1)), (25, read(3, 1)))

    assert flow.plaintext_age == 20


def test_a_sidecar_that_restarts_makes_no_burst_and_closes_no_lock() -> None:
    (flow,) = after((0, read(1000, 0)), (5, read(1010, 0)), (10, read(4, 3)))

    assert flow.recent.mutual_tls == 10
    assert flow.lock is Lock.PART


def test_plaintext_left_after_a_sidecar_is_gone_counts_as_new() -> None:
    (flow,) = after((0, read(0, 100)), (100, read(50, 100)), (105, read(60, 20)))

    assert flow.seen.plaintext == 20


def test_a_pause_longer_than_the_window_makes_no_rate_but_opens_locks() -> None:
    (flow,) = after((0, read(0)), (5, read(10)), (3605, read(7210, 1)), (3610, read(7220, 1)))

    assert (flow.recent.mutual_tls, flow.recent_seconds) == (10, 5)
    assert flow.lock is Lock.PART


def test_a_way_without_counter_any_more_stays_while_the_window_saw_it() -> None:
    window = Window(60)
    for at, edges in ((0.0, read(0)), (5.0, read(10)), (10.0, [])):
        window = traffic_window.observe(window, at, edges)
    assert [flow.lock for flow in traffic_window.flows(window).values()] == [Lock.CLOSED]

    for at in range(15, 75, 5):
        window = traffic_window.observe(window, float(at), [])

    assert traffic_window.flows(window) == {}
    assert not window.plaintext_at


def test_sidecars_that_are_silent_for_a_while_add_nothing_when_they_speak_again() -> None:
    window = Window(60)
    for at, edges, complete in ((0.0, read(500, 70), True), (100.0, read(510, 70), True), (105.0, [], False)):
        window = traffic_window.observe(window, at, edges, complete=complete)
    window = traffic_window.observe(window, 110.0, read(512, 70))
    (flow,) = traffic_window.flows(window).values()

    assert (flow.recent.mutual_tls, flow.recent.plaintext) == (2, 0)
    assert flow.lock is Lock.CLOSED


def test_counts_that_are_told_of_another_client_are_not_new() -> None:
    named, nameless = edge("shop/old", "shop/b", 0, 70), edge("10.0.0.7", "shop/b", 0, 70)
    window = Window(60)
    others = [edge("shop/web", "shop/b", served) for served in (10, 20, 30)]
    for at, other, edges in zip((0.0, 100.0, 105.0), others, ([named], [named], [nameless]), strict=True):
        window = traffic_window.observe(window, at, [other, *edges])

    locks = {way.client.name: flow.lock for way, flow in traffic_window.flows(window).items()}
    assert locks == {"web": Lock.CLOSED, "10.0.0.7": Lock.QUIET}

    more = traffic_window.observe(window, 110.0, [others[-1], nameless, edge("shop/new", "shop/b", 0, 2)])
    locks = {way.client.name: flow.lock for way, flow in traffic_window.flows(more).items() if flow.seen.count}
    assert locks == {"web": Lock.CLOSED, "new": Lock.OPEN}


def test_what_nobody_answered_is_no_protected_traffic() -> None:
    (flow,) = after((0, read(0)), (5, read(0, count=7, errors=7)))

    assert (flow.lock, flow.recent.count) == (Lock.FAILED, 7)


def test_ways_of_several_pods_and_principals_are_one() -> None:
    edges = [
        edge("shop/a", "shop/b", 3, source_principal="one"),
        edge("shop/a", "shop/b", 4, source_principal="two"),
        edge("shop/a", "shop/b", 5, destination_port=81),
    ]
    flows = traffic_window.flows(traffic_window.observe(Window(60), 0, edges))

    assert [(way.port, flow.total.mutual_tls) for way, flow in flows.items()] == [(80, 7), (81, 5)]


def test_what_is_kept_is_bounded_by_the_window() -> None:
    window = Window(60)
    for step in range(1000):
        window = traffic_window.observe(window, 5.0 * step, read(step))

    assert len(window.intervals) == 12


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_percent_says_all_or_nothing_only_if_it_is(mutual_tls: int, plaintext: int) -> None:
    percent = Counts(mutual_tls=mutual_tls, plaintext=plaintext).mutual_tls_percent

    assert (percent == 100) == (mutual_tls > 0 and plaintext == 0)
    assert (percent == 0) == (mutual_tls == 0 and plaintext > 0)
    assert (percent is None) == (mutual_tls == plaintext == 0)


_COUNTERS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3), st.integers(1, 90)), min_size=1, max_size=30)


@given(_COUNTERS)
def test_a_closed_lock_means_that_no_plaintext_was_added_within_the_window(steps: list[tuple[int, int, int]]) -> None:
    window, at, mutual, plain = Window(60), 0.0, 0, 0
    added: list[tuple[float, int]] = []
    for mutual_tls, plaintext, seconds in steps:
        at += seconds
        mutual, plain = mutual + mutual_tls, plain + plaintext
        added.append((at, plaintext))
        window = traffic_window.observe(window, at, read(mutual, plain))
    (flow,) = traffic_window.flows(window).values()

    recent = sum(plaintext for moment, plaintext in added if moment > at - 60)
    assert (flow.lock in (Lock.PART, Lock.OPEN)) == (recent > 0)
