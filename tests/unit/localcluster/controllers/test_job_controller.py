"""Jobs: which pods are started, how ends are counted, and when it is over."""

from typing import Any

import pytest
from cluster_objects import NOW, metadata, pod, state

from localcluster.apiserver import defaults, kinds
from localcluster.controllers import indexes, job_pods, jobs
from localcluster.controllers.conditions import find
from localcluster.controllers.state import State
from localcluster.controllers.writes import Again, Create, Delete, Patch, Update, Write

Object = dict[str, Any]
KEY = ("demo", "sum")
LABELS = {"job-name": "sum"}
BEGUN = {"startTime": "2026-11-23T11:59:00Z"}


def job(status: Object | None = None, restart: str = "Never", **spec: Any) -> Object:
    template = {"metadata": {"labels": LABELS}, "spec": {"restartPolicy": restart, "containers": [{"name": "main"}]}}
    given = {"selector": {"matchLabels": LABELS}, "template": template, **spec}
    about = metadata("sum", generation=1)
    return defaults.apply(kinds.JOB, {"metadata": about, "spec": given, "status": status or {}})


def worker(owner: Object, name: str, phase: str = "Running", **about: Any) -> Object:
    about.setdefault("finalizers", [job_pods.FINALIZER])
    made = pod(name, owner=(kinds.JOB, owner), labels=LABELS, phase=phase, ready=phase == "Running", **about)
    if phase in ("Succeeded", "Failed"):
        ended = {"exitCode": 0 if phase == "Succeeded" else 3, "finishedAt": "2026-11-23T11:59:55Z"}
        made["status"]["containerStatuses"] = [{"name": "main", "state": {"terminated": ended}}]
    return made


def steps(owner: Object | None, *pods: Object) -> list[Write]:
    return jobs.reconcile(state(jobs=[owner] if owner else [], pods=list(pods)), KEY, NOW)


def created(owner: Object, *pods: Object) -> list[Object]:
    return [w.object for w in steps(owner, *pods) if isinstance(w, Create)]


def status(owner: Object, *pods: Object) -> Object:
    (written,) = [w.object["status"] for w in steps(owner, *pods) if isinstance(w, Update)]
    return dict(written)


def conditions(shown: Object) -> dict[str, str]:
    return {item["type"]: item.get("reason", "") for item in shown["conditions"] if item["status"] == "True"}


def settled(owner: Object, *pods: Object) -> Object:
    """The job's status after as many rounds as it takes, with what it writes done."""
    found = state(jobs=[owner], pods=list(pods))
    for _ in range(10):
        writes = [w for w in jobs.reconcile(found, KEY, NOW) if isinstance(w, Update | Patch | Delete)]
        if not writes:
            break
        for write in writes:
            _do(found, write)
    final = found.get(kinds.JOB, *KEY)
    assert final is not None
    return dict(final["status"])


def _do(found: State, write: Update | Patch | Delete) -> None:
    if isinstance(write, Update):
        found.put(write.kind, write.object)
    elif isinstance(write, Patch):
        item = found.get(write.kind, write.namespace, write.name)
        assert item is not None
        found.put(write.kind, {**item, "metadata": {**item["metadata"], **write.body["metadata"]}})
    else:
        found.remove(write.kind, *KEY[:1], write.object["metadata"]["name"])


def test_as_many_pods_run_as_parallelism_and_what_is_left_allow() -> None:
    owner = job(BEGUN, completions=5, parallelism=3)

    assert len(created(owner)) == 3
    assert len(created(owner, worker(owner, "a"))) == 2
    assert len(created(job({**BEGUN, "succeeded": 4}, completions=5, parallelism=3))) == 1
    assert created(owner)[0]["metadata"]["finalizers"] == [job_pods.FINALIZER]


def test_an_end_is_announced_then_let_go_then_counted() -> None:
    owner = job(BEGUN, completions=2)
    ended = worker(owner, "a", "Succeeded")

    writes = steps(owner, ended)
    (announced,) = [w.object["status"] for w in writes if isinstance(w, Update)]
    assert announced["uncountedTerminatedPods"] == {"succeeded": ["uid-a"]}
    assert "succeeded" not in announced
    kinds_of_writes = [type(w) for w in writes]
    assert kinds_of_writes.index(Update) < kinds_of_writes.index(Patch)
    after = status({**owner, "status": announced}, {**ended, "metadata": {**ended["metadata"], "finalizers": []}})
    assert (after["succeeded"], after["uncountedTerminatedPods"]) == (1, {})


def test_an_end_that_nobody_can_see_any_more_still_counts() -> None:
    owner = job({**BEGUN, "uncountedTerminatedPods": {"failed": ["uid-gone"]}, "failed": 1})

    assert status(owner)["failed"] == 2


def test_it_is_complete_when_enough_have_succeeded() -> None:
    owner = job(BEGUN, completions=2, parallelism=2)
    final = settled(owner, worker(owner, "a", "Succeeded"), worker(owner, "b", "Succeeded"))

    assert conditions(final) == {"SuccessCriteriaMet": "CompletionsReached", "Complete": "CompletionsReached"}
    assert (final["succeeded"], final["completionTime"]) == (2, "2026-11-23T12:00:00Z")


def test_a_work_queue_is_complete_when_one_has_succeeded_and_none_runs() -> None:
    owner = job(BEGUN, parallelism=2)
    one = worker(owner, "a", "Succeeded")

    assert created(owner, one, worker(owner, "b")) == []
    assert "conditions" not in settled(owner, one, worker(owner, "b"))
    assert "Complete" in conditions(settled(owner, one))


def test_failures_are_tried_again_later_each_time() -> None:
    owner = job(BEGUN)
    (again,) = [w for w in steps(owner, worker(owner, "a", "Failed")) if isinstance(w, Again)]

    assert again.seconds == 5.0
    twice = (worker(owner, "a", "Failed"), worker(owner, "b", "Failed"))
    assert [w.seconds for w in steps(owner, *twice) if isinstance(w, Again)] == [15.0]


def test_too_many_failures_end_it_and_what_still_runs() -> None:
    owner = job(BEGUN, backoffLimit=0, parallelism=2, completions=2)
    running = worker(owner, "b")
    final = settled(owner, worker(owner, "a", "Failed"), running)

    assert conditions(final) == {"FailureTarget": "BackoffLimitExceeded", "Failed": "BackoffLimitExceeded"}


def test_restarts_count_as_failures_where_containers_are_restarted() -> None:
    owner = job(BEGUN, restart="OnFailure", backoffLimit=2)
    tired = worker(owner, "a")
    tired["status"]["containerStatuses"] = [{"name": "main", "restartCount": 2}]

    assert find(status(owner, tired)["conditions"], "FailureTarget") is not None


def test_a_deadline_ends_it_and_is_waited_for() -> None:
    late = job(BEGUN, activeDeadlineSeconds=30)
    early = job(BEGUN, activeDeadlineSeconds=90)

    assert conditions(settled(late, worker(late, "a"))) == {
        "FailureTarget": "DeadlineExceeded",
        "Failed": "DeadlineExceeded",
    }
    assert [w.seconds for w in steps(early, worker(early, "a")) if isinstance(w, Again)] == [30.0]


def test_a_suspended_job_has_no_pods_and_goes_on_when_resumed() -> None:
    owner = job(BEGUN, suspend=True)
    shown = settled(owner, worker(owner, "a"))

    assert conditions(shown) == {"Suspended": "JobSuspended"}
    assert "startTime" not in shown
    resumed = job(shown)
    assert len(created(resumed)) == 1
    assert status(resumed)["startTime"] == "2026-11-23T12:00:00Z"


def test_indexed_pods_have_their_numbers_and_are_done_one_by_one() -> None:
    owner = job({**BEGUN, "completedIndexes": "0,2"}, completions=4, parallelism=4, completionMode="Indexed")
    made = created(owner)

    assert [item["spec"]["hostname"] for item in made] == ["sum-1", "sum-3"]
    assert made[0]["metadata"]["annotations"] == {job_pods.INDEX: "1"}
    assert made[0]["spec"]["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([0, 1], "0,1"), ([0, 1, 2, 5, 7, 8, 9], "0-2,5,7-9")]
)
def test_index_sets_are_written_short(numbers: list[int], text: str) -> None:
    assert indexes.written(numbers) == text
    assert indexes.parsed(text) == numbers


def test_a_failure_policy_ends_it_or_forgives() -> None:
    def ruled(action: str) -> Object:
        rule = {"action": action, "onExitCodes": {"operator": "In", "values": [3]}}
        return job(BEGUN, backoffLimit=0, podFailurePolicy={"rules": [rule]})

    fatal, forgiving = ruled("FailJob"), ruled("Ignore")
    assert conditions(settled(fatal, worker(fatal, "a", "Failed")))["Failed"] == "PodFailurePolicy"
    assert "conditions" not in settled(forgiving, worker(forgiving, "a", "Failed"))


def test_a_finished_job_goes_after_its_time_to_live() -> None:
    over = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-23T11:59:00Z"}]}

    assert [type(w) for w in steps(job(over, ttlSecondsAfterFinished=60))] == [Delete]
    assert [w.seconds for w in steps(job(over, ttlSecondsAfterFinished=90)) if isinstance(w, Again)] == [30.0]
    assert steps(job(over)) == []


def test_pods_of_a_job_that_is_gone_are_let_go() -> None:
    owner = job(BEGUN)
    (write,) = steps(None, worker(owner, "a", deletionTimestamp="2026-11-23T12:00:00Z"))

    assert isinstance(write, Patch)
    assert write.body == {"metadata": {"finalizers": None}}
