"""CronJobs: which Job is due, which ones go, and what the status says."""

from typing import Any

from cluster_objects import NOW, metadata, state

from localcluster.apiserver import defaults, kinds
from localcluster.controllers import cron_jobs
from localcluster.controllers.state import owner_reference
from localcluster.controllers.writes import Again, Create, Delete, Record, Update, Write

Object = dict[str, Any]
KEY = ("demo", "tick")
AT_NOON = "2026-11-23T12:00:00Z"
BEFORE = {"lastScheduleTime": "2026-11-23T11:59:00Z"}


def cron_job(status: Object | None = None, schedule: str = "* * * * *", **spec: Any) -> Object:
    template = {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main"}]}}}}
    given = {"schedule": schedule, "jobTemplate": template, **spec}
    return defaults.apply(kinds.CRON_JOB, {"metadata": metadata("tick"), "spec": given, "status": status or {}})


def job(owner: Object, name: str, ended: str = "", **about: Any) -> Object:
    status = {"conditions": [{"type": ended, "status": "True"}], "completionTime": AT_NOON} if ended else {}
    reference = owner_reference(kinds.CRON_JOB, owner)
    return {"metadata": metadata(name, ownerReferences=[reference], **about), "spec": {}, "status": status}


def steps(owner: Object, *jobs: Object) -> list[Write]:
    return cron_jobs.reconcile(state(cronjobs=[owner], jobs=list(jobs)), KEY, NOW)


def created(owner: Object, *jobs: Object) -> list[str]:
    return [w.object["metadata"]["name"] for w in steps(owner, *jobs) if isinstance(w, Create)]


def deleted(owner: Object, *jobs: Object) -> list[str]:
    return [w.object["metadata"]["name"] for w in steps(owner, *jobs) if isinstance(w, Delete)]


def test_a_job_is_made_at_its_moment_and_named_after_it() -> None:
    writes = steps(cron_job(BEFORE))
    (made,) = [w.object for w in writes if isinstance(w, Create)]

    assert made["metadata"]["name"] == f"tick-{int(NOW.timestamp()) // 60}"
    assert made["metadata"]["annotations"] == {cron_jobs.SCHEDULED_AT: AT_NOON}
    assert [w.object["status"] for w in writes if isinstance(w, Update)] == [{"lastScheduleTime": AT_NOON}]
    assert [w.seconds for w in writes if isinstance(w, Again)] == [60.0]


def test_nothing_is_due_twice_or_while_suspended() -> None:
    assert created(cron_job({"lastScheduleTime": AT_NOON})) == []
    assert created(cron_job(BEFORE, suspend=True)) == []


def test_of_several_missed_moments_the_latest_counts() -> None:
    assert len(created(cron_job({"lastScheduleTime": "2026-11-23T11:30:00Z"}))) == 1


def test_after_a_long_time_away_it_goes_on_and_says_so() -> None:
    writes = steps(cron_job({"lastScheduleTime": "2026-01-01T00:00:00Z"}))

    assert [w.object["metadata"]["name"] for w in writes if isinstance(w, Create)] == [
        f"tick-{int(NOW.timestamp()) // 60}"
    ]
    assert "TooManyMissedTimes" in [w.reason for w in writes if isinstance(w, Record)]


def test_what_is_too_late_is_left_out() -> None:
    hourly = cron_job({"lastScheduleTime": "2026-11-23T10:30:00Z"}, "30 * * * *", startingDeadlineSeconds=60)

    assert created(hourly) == []
    assert [w.seconds for w in steps(hourly) if isinstance(w, Again)] == [1800.0]


def test_the_concurrency_policy_decides_beside_a_job_that_runs() -> None:
    for policy, made, gone in (("Allow", 1, []), ("Forbid", 0, []), ("Replace", 1, ["former"])):
        owner = cron_job(BEFORE, concurrencyPolicy=policy)
        assert len(created(owner, job(owner, "former"))) == made
        assert deleted(owner, job(owner, "former")) == gone


def test_old_jobs_go_beyond_the_limits_of_their_kind() -> None:
    owner = cron_job({"lastScheduleTime": AT_NOON}, successfulJobsHistoryLimit=1, failedJobsHistoryLimit=0)
    jobs = [
        job(owner, "a", "Complete", creationTimestamp="2026-11-23T11:00:00Z"),
        job(owner, "b", "Complete", creationTimestamp="2026-11-23T11:10:00Z"),
        job(owner, "c", "Failed"),
        job(owner, "d"),
    ]

    assert deleted(owner, *jobs) == ["a", "c"]


def test_the_status_names_what_runs_and_the_last_success() -> None:
    owner = cron_job({"lastScheduleTime": AT_NOON})
    writes = steps(owner, job(owner, "done", "Complete"), job(owner, "runs"))
    (status,) = [w.object["status"] for w in writes if isinstance(w, Update)]

    assert [item["name"] for item in status["active"]] == ["runs"]
    assert status["lastSuccessfulTime"] == AT_NOON


def test_a_schedule_in_a_zone_follows_its_clocks() -> None:
    owner = cron_job({"lastScheduleTime": "2026-11-23T11:30:00Z"}, "0 13 * * *", timeZone="Europe/Berlin")
    (made,) = [w.object for w in steps(owner) if isinstance(w, Create)]

    assert made["metadata"]["annotations"][cron_jobs.SCHEDULED_AT] == "2026-11-23T13:00:00+01:00"
