"""Events are kept for an hour after they were last seen, certificate requests by what was decided about them."""

from datetime import UTC, datetime

from localcluster.apiserver import certificate_requests, expiry

NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)


def event(created: str, **more: object) -> dict[str, object]:
    return {"metadata": {"creationTimestamp": f"2024-01-01T{created}Z"}, **more}


def test_old_events_are_due_and_the_next_is_waited_for() -> None:
    events = [
        (("ns", "old"), event("10:59:00")),
        (("ns", "repeated"), event("10:00:00", lastTimestamp="2024-01-01T11:30:00Z")),
        (("ns", "series"), event("10:00:00", series={"lastObservedTime": "2024-01-01T11:45:00.000001Z"})),
    ]

    expired, pause = expiry.due(events, expiry.event_ends, NOW)

    assert expired == [("ns", "old")]
    assert pause == 1800


def test_without_events_there_is_nothing_to_wait_for() -> None:
    assert expiry.due([], expiry.event_ends, NOW) == ([], None)


def test_requests_that_wait_are_kept_for_a_day_and_decided_ones_for_an_hour() -> None:
    decided = {"conditions": [{"type": "Approved", "lastUpdateTime": "2024-01-01T10:30:00Z"}]}
    requests = [
        (("", "waits"), event("10:00:00")),
        (("", "decided"), event("10:00:00", status=decided)),
    ]

    expired, pause = expiry.due(requests, certificate_requests.ends, NOW)

    assert expired == [("", "decided")]
    assert pause == 22 * 3600
