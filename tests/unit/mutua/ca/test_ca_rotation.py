"""When certificates are replaced."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.certificates import NOW, vectors
from mutua.ca import bundle, rotation

DAY = timedelta(days=1)


@pytest.mark.parametrize("row", vectors("rotate-delay"))
def test_delays_as_istio(row: dict[str, Any]) -> None:
    """Istio's own tables; with jitter, both ends of its range."""
    created, expires = (NOW + timedelta(seconds=row[key]) for key in ("created_s", "expire_s"))
    wanted = row["expect"]
    delays = [
        rotation.delay(created, expires, NOW, row["ratio"], sign * row["jitter"]).total_seconds() for sign in (-1, 1)
    ]

    if "delay_s" in wanted:
        assert all(abs(delay - wanted["delay_s"]) <= wanted["tolerance_s"] for delay in delays)
    else:
        assert all(wanted["delay_min_s"] <= delay <= wanted["delay_max_s"] for delay in delays)


def test_by_default_at_eighty_percent() -> None:
    """Counted from when the certificate was received."""
    assert rotation.delay(NOW, NOW + DAY, NOW) == 0.8 * DAY
    assert rotation.delay(NOW, NOW + DAY, NOW + DAY / 2) == 0.3 * DAY


def test_a_moment_that_has_passed_is_now() -> None:
    """After a suspension, or with an expired certificate."""
    assert timedelta(0) == rotation.delay(NOW, NOW + DAY, NOW + 5 * DAY)


@given(ratio=st.floats(0, 1), jitter=st.floats(-1, 1), elapsed=st.floats(0, 2))
def test_never_negative_and_never_after_the_end(ratio: float, jitter: float, elapsed: float) -> None:
    """Whatever the settings, a certificate in its dates is not kept beyond them."""
    now = NOW + elapsed * DAY

    delay = rotation.delay(NOW, NOW + DAY, now, ratio, jitter)

    assert timedelta(0) <= delay <= max(NOW + DAY - now, timedelta(0))


def test_a_root_is_replaced_in_its_last_fifth() -> None:
    """And when it has expired."""
    days = [1, 79, 81, 101]

    assert [rotation.root_is_due(NOW, NOW + 100 * DAY, NOW + day * DAY) for day in days] == [False, False, True, True]


@pytest.mark.parametrize("row", vectors("wait-time"))
def test_an_authority_that_has_ended_or_cannot_be_read(row: dict[str, Any]) -> None:
    """Istio answers with an error; here the one is due at once, the other is refused when it is read."""
    if "pem" in row:
        with pytest.raises(ValueError, match="PEM"):
            bundle.certificates(row["pem"].encode())
        return
    begins, ends, now = (datetime.fromisoformat(row[name]) for name in ("notBefore", "notAfter", "now"))
    assert rotation.root_is_due(begins, ends, now, row["grace_percent"])
