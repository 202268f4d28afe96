"""What the agent itself tells about the workload's certificate."""

from datetime import UTC, datetime, timedelta

from mutua.programs import agent_status
from mutua.programs.agent_identity import Condition

MOMENT = datetime(2030, 1, 1, tzinfo=UTC)


def test_the_end_of_the_certificate_is_told_as_a_moment_and_as_seconds_left() -> None:
    samples = {
        sample.name: sample.value
        for sample in agent_status.identity_samples(Condition(MOMENT, MOMENT - timedelta(hours=5), 3))
    }

    assert samples["mutua_agent_certificate_expiry_timestamp_seconds"] == MOMENT.timestamp()
    left = samples["istio_agent_cert_expiry_seconds"]
    assert abs(left - samples["istio_agent_cert_next_rotation_seconds"] - 5 * 3600) < 1
    assert samples["istio_agent_cert_failed_renewals"] == 3


def test_without_a_certificate_there_is_no_end_but_failures() -> None:
    samples = [sample.name for sample in agent_status.identity_samples(Condition(None, MOMENT, 7))]

    assert samples == ["istio_agent_cert_failed_renewals"]
