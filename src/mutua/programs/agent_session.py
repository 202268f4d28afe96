"""The agent while its Envoy runs: certificates in, certificates out, and an orderly end."""

import asyncio
import signal
import socket
from collections.abc import Callable
from datetime import timedelta
from subprocess import Popen

from mutua.errors import MutuaError
from mutua.programs import agent_files
from mutua.programs.agent_files import FileCertificates
from mutua.programs.agent_identity import WorkloadIdentity
from mutua.programs.agent_settings import AgentSettings
from mutua.servers.sds import SecretService
from mutua.system import keys
from mutua.system.ca_client import CaClient, CaClientSettings
from mutua.system.logs import Log
from mutua.system.processes import Child

SHORTEST_DRAIN = timedelta(seconds=1)
"""Peers learn of a pod's end after its SIGTERM; what they still send in this time is served."""

ENVOY_PATIENCE_SECONDS = 5.0

_LOG = Log("agent")


async def run(settings: AgentSettings, process: "Popen[bytes]", waiting: socket.socket) -> int:
    """Serve Envoy until it ends (its exit code) or until we are told to stop (drained: 0).

    `waiting` is where Envoy has asked for its certificate so far; it asks again as soon as that is closed.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Blocked since the start, so that a signal from before this moment arrives now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    envoy = Child(process)
    secrets = SecretService()
    await secrets.start(settings.socket_path)
    waiting.close()
    ended = asyncio.ensure_future(envoy.wait())
    stopped = asyncio.ensure_future(stop.wait())
    identity = WorkloadIdentity(settings, _certificates(settings), secrets)
    renewal = asyncio.ensure_future(identity.keep())
    status = asyncio.ensure_future(_status(settings, stop.set, identity))
    try:
        await asyncio.wait((ended, stopped, renewal), return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            _LOG.error("Envoy ended, so the agent ends with its code", code=ended.result())
            return ended.result()
        if renewal.done():
            renewal.result()  # it never returns; whatever it raised is a mistake of ours
        await _drain(settings, ended)
        return 0
    finally:
        renewal.cancel()
        stopped.cancel()
        status.cancel()
        await asyncio.wait((status,))
        await envoy.stop(ENVOY_PATIENCE_SECONDS)
        await secrets.stop()


async def _status(settings: AgentSettings, stop: Callable[[], None], identity: WorkloadIdentity) -> None:
    if settings.status_port:
        # Loaded only now: the certificate comes first, and the application needs longer than this to start.
        from mutua.programs import agent_status

        await agent_status.serve(settings, stop, lambda: agent_status.identity_samples(identity.condition))


async def _drain(settings: AgentSettings, ended: "asyncio.Future[int]") -> None:
    """Tell peers to go elsewhere, and wait until they have, at most for the drain duration."""
    from mutua.system import envoy_admin

    loop = asyncio.get_running_loop()
    begin, ports = loop.time(), settings.bootstrap
    _LOG.info("stopping: draining connections", at_most=f"{settings.drain.total_seconds():g}s")
    active = -1
    try:
        for path in ("/healthcheck/fail", "/drain_listeners?inboundonly&graceful&skip_exit"):
            await asyncio.to_thread(envoy_admin.request, "POST", path, port=ports.admin_port, timeout_seconds=2)
        while not ended.done() and loop.time() - begin < settings.drain.total_seconds():
            await asyncio.sleep(0.1)
            active = await asyncio.to_thread(
                envoy_admin.active_connections,
                port=ports.admin_port,
                except_ports=(ports.readiness_port, ports.metrics_port),
            )
            if active == 0 and loop.time() - begin >= SHORTEST_DRAIN.total_seconds():
                break
    except MutuaError as error:
        _LOG.warn("cannot drain", error=error)
    _LOG.info("drained", seconds=f"{loop.time() - begin:.1f}", connections_left=active)


def _certificates(settings: AgentSettings) -> CaClient | FileCertificates:
    """Where certificates come from: files of the pod, where there are some, else the control plane."""
    client = CaClient(_client_settings(settings))
    place = agent_files.folder(settings.pod_root, demanded=settings.certificates_from_files)
    if place is None:
        return client
    _LOG.info("the certificate comes from files", folder=place)
    return FileCertificates(place, settings.identity, client)


def _client_settings(settings: AgentSettings) -> CaClientSettings:
    return CaClientSettings(
        identity=settings.identity,
        token_address=settings.token_address,
        renewal_address=settings.renewal_address,
        server_name=settings.bootstrap.discovery_name,
        token_path=settings.token_path,
        root_path=settings.root_path,
        ttl=settings.ttl,
        algorithm=keys.KeyAlgorithm(settings.key_algorithm),
        pkcs8=settings.pkcs8,
        cluster_id=settings.cluster_id,
        signer=settings.signer,
    )
