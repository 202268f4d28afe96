"""The agent's port 15020: which routes it serves, from the settings."""

import asyncio
from collections.abc import Callable, Iterable

from mutua.envoy.bootstrap import own_names
from mutua.errors import UnavailableError
from mutua.programs.agent_identity import Condition
from mutua.programs.agent_settings import AgentSettings
from mutua.servers import agent_status, http
from mutua.servers.admin import Sample
from mutua.servers.agent_metrics import AgentMetrics
from mutua.servers.app_probes import AppProbes
from mutua.system import clock
from mutua.system.logs import Log

_LOG = Log("agent")


async def serve(settings: AgentSettings, stop: Callable[[], None], own: Callable[[], Iterable[Sample]]) -> None:
    """Answer until cancelled. `stop` ends the sidecar, `own` is what the agent counts.

    A port that is taken costs the probes and the metrics, not the sidecar.
    """
    ports = settings.bootstrap
    probes = AppProbes(settings.app_probes, settings.pod_address, settings.config_folder)
    application = agent_status.application(
        probes.routes(),
        AgentMetrics(ports.admin_port, settings.pod_address, own_names(ports), settings.scrape, own).routes(),
        agent_status.own_routes(ports.readiness_port, stop),
    )
    try:
        async with http.serving(application, ports.status_address, settings.status_port):
            await asyncio.Event().wait()
    except UnavailableError as error:
        _LOG.error("no answers to the kubelet's probes of the application", error=error)


def identity_samples(condition: Condition) -> Iterable[Sample]:
    """What the agent counts of the workload's certificate. Source: Istio's name of the first one."""
    now = clock.now()
    if condition.expires is not None:
        # The moment is what alerts compare with time(), however old the sample is.
        yield Sample(
            "mutua_agent_certificate_expiry_timestamp_seconds",
            condition.expires.timestamp(),
            help="When the certificate that Envoy holds ends.",
        )
        seconds = (condition.expires - now).total_seconds()
        yield Sample("istio_agent_cert_expiry_seconds", seconds, {"resource_name": "default"})
        until = (condition.next_rotation - now).total_seconds()
        yield Sample("istio_agent_cert_next_rotation_seconds", until, {"resource_name": "default"})
    yield Sample("istio_agent_cert_failed_renewals", condition.failures)
