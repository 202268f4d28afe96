"""The agent while its Envoy runs: certificates in, certificates out, and an orderly end."""

import asyncio
import random
import signal
from datetime import timedelta
from subprocess import Popen

from mutua.ca import rotation
from mutua.errors import MutuaError
from mutua.programs.agent_settings import AgentSettings
from mutua.servers.sds import SecretService
from mutua.system import clock, keys
from mutua.system.ca_client import CaClient, CaClientSettings, WorkloadCertificate, endless_back_off
from mutua.system.logs import Log
from mutua.system.processes import Child

SHORTEST_LIFE = timedelta(seconds=1)
"""Between two certificates; whatever the settings say, an agent does not ask in a loop."""

SHORTEST_DRAIN = timedelta(seconds=1)
"""Peers learn of a pod's end after its SIGTERM; what they still send in this time is served."""

ENVOY_PATIENCE_SECONDS = 5.0

_LOG = Log("agent")


async def run(settings: AgentSettings, process: "Popen[bytes]") -> int:
    """Serve Envoy until it ends (its exit code) or until we are told to stop (drained: 0)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Blocked since the start, so that a signal from before this moment arrives now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    envoy = Child(process)
    secrets = SecretService()
    await secrets.start(settings.socket_path)
    ended = asyncio.ensure_future(envoy.wait())
    stopped = asyncio.ensure_future(stop.wait())
    renewal = asyncio.ensure_future(keep_certificate(settings, CaClient(_client_settings(settings)), secrets))
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
        await envoy.stop(ENVOY_PATIENCE_SECONDS)
        await secrets.stop()


async def keep_certificate(
    settings: AgentSettings, client: CaClient, secrets: SecretService, now: clock.Clock = clock.now
) -> None:
    """Get a certificate, publish it, replace it in time; for ever, and whatever the control plane does."""
    current: WorkloadCertificate | None = None
    failures = 0
    while True:
        try:
            fresh = await client.certificate(current)
        except (MutuaError, OSError, ValueError) as error:
            failures += 1
            await _wait_after_failure(error, failures, current, now)
            continue
        failures = 0
        secrets.publish(fresh.chain, fresh.key, fresh.roots)
        current = fresh
        jitter = random.uniform(-1, 1) * settings.grace_ratio_jitter  # noqa: S311 - spread, not secrecy
        delay = rotation.delay(fresh.created, fresh.expires, now(), settings.grace_ratio, jitter)
        renewal = now() + max(delay, SHORTEST_LIFE)
        _LOG.info(
            "certificate received",
            identity=settings.identity,
            serial=f"{fresh.serial:x}",
            not_after=f"{fresh.expires:%Y-%m-%dT%H:%M:%SZ}",
            next_rotation=f"{renewal:%Y-%m-%dT%H:%M:%SZ}",
        )
        await clock.sleep_until(renewal, now)


async def _wait_after_failure(
    error: Exception, failures: int, current: WorkloadCertificate | None, now: clock.Clock
) -> None:
    pause = endless_back_off(failures)
    if failures & (failures - 1) == 0:  # the 1st, 2nd, 4th, 8th…: an outage of hours fills no disk
        fields = {"error": error, "attempt": failures, "retry_in": f"{pause.total_seconds():.1f}s"}
        if current is None:
            _LOG.warn("no certificate yet, mutual TLS cannot start", **fields)
        elif now() < current.expires:
            _LOG.warn("renewal failed", valid_until=f"{current.expires:%Y-%m-%dT%H:%M:%SZ}", **fields)
        else:
            _LOG.error("the certificate has expired, peers refuse this workload", **fields)
    await asyncio.sleep(pause.total_seconds())


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
    )
