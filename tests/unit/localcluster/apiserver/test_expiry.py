"""Events are kept for an hour after they were last seen."""

from datetime import UTC, datetime

from localcluster.apiserver import expiry

NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)


def event(created: str, **more: object) -> dict[str, object]:
    return {"metadata": {"creationTimestamp": f"2024-01-01T{created}Z"}, **more}


def test_old_events_are_due_and_the_next_is_waited_for() -> None:
    events = [
        (("ns", "old"), event("10:59:00")),
        (("ns", "repeated"), event("10:00:00", lastTimestamp="2024-01-01T11:30:00Z")),
        (("ns", "series"), event("10:00:00", series={"lastObservedTime": "2024-01-01T11:45:00.000001Z"})),
    ]

    expired, pause = expiry.due(events, NOW)

    assert expired == [("ns", "old")]
    assert pause == 1800


def test_without_events_there_is_nothing_to_wait_for() -> None:
    assert expiry.due([], NOW) == ([], None)
