"""What processes use: samples of this very process, and what lies between two samples."""

import os

from localcluster.node.usage import Sample, UsageMeter, between, exact_memory, namespace_of, own_memory, sample, tree


def test_usage_is_what_came_between_two_samples() -> None:
    first = Sample(10.0, {1: 5.0, 2: 3.0}, {1: 100, 2: 50})
    second = Sample(12.0, {1: 6.0, 2: 2.0, 3: 1.0}, {1: 120, 3: 10})
    usage = between(first, second)

    assert usage.window_seconds == 2.0
    assert usage.cores == {1: 0.5, 2: 0.0, 3: 0.5}
    assert usage.memory == {1: 120, 3: 10}


def test_this_process_is_seen_with_its_memory() -> None:
    namespace = namespace_of(os.getpid())
    found = sample()

    assert namespace is not None
    assert found.memory[namespace] > 1 << 20
    assert found.seconds[namespace] > 0
    assert namespace_of(2**22 + 1) is None


async def test_a_meter_measures_over_a_window_of_its_own() -> None:
    meter = UsageMeter()

    first, second = await meter.measure(), await meter.measure()
    assert min(first.window_seconds, second.window_seconds) >= 0.5


def test_a_tree_has_the_processes_below_and_their_memory() -> None:
    own = os.getpid()

    assert own in tree(own)
    assert own_memory(tree(own)) > 1 << 20
    assert exact_memory([own]) > 1 << 20
    assert own_memory([2**22 + 1]) == exact_memory([2**22 + 1]) == 0
