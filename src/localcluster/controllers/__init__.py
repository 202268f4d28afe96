"""What keeps a cluster as its users want it: pure functions from state to writes, and one runner for them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from localcluster.controllers import (
    cron_jobs,
    daemon_sets,
    deployments,
    endpoint_slices,
    endpoints,
    events,
    garbage,
    jobs,
    namespaces,
    replica_sets,
    scheduling,
    stateful_sets,
    volumes,
)
from localcluster.controllers.runner import Controller, Runner

if TYPE_CHECKING:
    from datetime import datetime

    from localcluster.apiserver.resources import Resources
    from localcluster.apiserver.settings import Settings
    from localcluster.controllers.state import Name, State
    from localcluster.controllers.writes import Write

__all__ = ["Controller", "Runner", "run", "standard"]


def standard(resources: Resources, ca_certificate: str) -> tuple[Controller, ...]:
    """Every controller of a cluster; `ca_certificate` (PEM) is what pods trust the API by."""

    def default_contents(state: State, key: Name, now: datetime) -> list[Write]:
        return namespaces.default_contents(ca_certificate, state, key)

    return (
        Controller("scheduler", scheduling.keys, scheduling.reconcile),
        Controller("namespace-contents", namespaces.keys, default_contents),
        Controller("deployment", deployments.keys, deployments.reconcile),
        Controller("replicaset", replica_sets.keys, replica_sets.reconcile, replica_sets.created, replica_sets.failed),
        Controller(
            "statefulset", stateful_sets.keys, stateful_sets.reconcile, stateful_sets.created, stateful_sets.failed
        ),
        Controller("daemonset", daemon_sets.keys, daemon_sets.reconcile, daemon_sets.created, daemon_sets.failed),
        Controller("job", jobs.keys, jobs.reconcile, jobs.created, jobs.failed),
        Controller("cronjob", cron_jobs.keys, cron_jobs.reconcile, cron_jobs.created, cron_jobs.failed),
        Controller("claim", volumes.claim_keys, volumes.reconcile_claim),
        Controller("volume", volumes.volume_keys, volumes.reconcile_volume),
        Controller("endpoints", endpoints.keys, endpoints.reconcile),
        Controller("endpointslice", endpoint_slices.keys, endpoint_slices.reconcile),
        Controller("namespace", namespaces.keys, namespaces.finish),
        Controller("garbage", garbage.keys, partial(garbage.reconcile, resources.kinds.by_kind)),
        Controller("event", events.keys, events.reconcile),
    )


async def run(resources: Resources, settings: Settings) -> None:
    """Keep the cluster behind `resources` as its objects ask for, until cancelled."""
    await Runner(resources, standard(resources, settings.pki.ca_certificate.decode())).run()
