"""Pods that have just gone are remembered by their address, for a while."""

from datetime import UTC, datetime, timedelta

import mesh_objects as make

from mutua.mesh.departed import REMEMBERED_FOR, Departed

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_pod_that_went_is_known_by_its_address_until_another_has_it_or_it_is_long_ago() -> None:
    pod = make.pod("a", "web", "10.0.0.1", {})
    there = make.snapshot(pod, make.pod("a", "other", "10.0.0.2", {}))
    gone = make.after(there, make.change(pod, gone=True))
    departed = Departed().after(there, gone, NOW)
    found = departed.find("10.0.0.1", NOW)

    assert found is not None
    assert (found.namespace, found.name) == ("a", "web")
    assert departed.find("10.0.0.2", NOW) is None
    assert departed.find("10.0.0.1", NOW + REMEMBERED_FOR) is None
    later = make.after(gone, make.change(make.pod("a", "third", "10.0.0.3", {})))
    assert departed.after(gone, later, NOW + timedelta(seconds=1)).find("10.0.0.1", NOW) is found
    assert departed.after(gone, later, NOW + REMEMBERED_FOR).pods == {}
    assert departed.after(gone, gone, NOW + REMEMBERED_FOR) is departed
