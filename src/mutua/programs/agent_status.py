"""The agent's port 15020: which routes it serves, from the settings."""

import asyncio
from collections.abc import Callable

from mutua.errors import UnavailableError
from mutua.programs.agent_settings import AgentSettings
from mutua.servers import agent_status, http
from mutua.servers.app_probes import AppProbes
from mutua.system.logs import Log

_LOG = Log("agent")


async def serve(settings: AgentSettings, stop: Callable[[], None]) -> None:
    """Answer until cancelled. `stop` ends the sidecar. A port that is taken costs the probes, not the sidecar."""
    ports = settings.bootstrap
    probes = AppProbes(settings.app_probes, settings.pod_address, settings.config_folder)
    application = agent_status.application(
        probes.routes(),
        agent_status.own_routes(ports.readiness_port, stop),
    )
    try:
        async with http.serving(application, ports.status_address, settings.status_port):
            await asyncio.Event().wait()
    except UnavailableError as error:
        _LOG.error("no answers to the kubelet's probes of the application", error=error)
