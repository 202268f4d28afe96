"""The workload's identity while its Envoy runs: get a certificate, renew it in time, follow the roots, report."""

import random
from datetime import datetime, timedelta
from typing import NamedTuple

from mutua.ca import rotation
from mutua.ca.bundle import merged
from mutua.errors import MutuaError
from mutua.programs import agent_trust
from mutua.programs.agent_files import FileCertificates
from mutua.programs.agent_settings import AgentSettings
from mutua.programs.agent_trust import Told, TrustFolder
from mutua.servers.sds import SecretService
from mutua.system import clock
from mutua.system.ca_client import CaClient, IdentityStatement, WorkloadCertificate, endless_back_off
from mutua.system.logs import Log

SHORTEST_LIFE = timedelta(seconds=1)
"""Between two certificates; whatever settings and files say, an agent does not ask in a loop."""

SPREAD_SECONDS = 2.0
"""When the mesh's issuer changes, all agents hear of it at once; they come within this time."""

ISSUER_AGAIN = timedelta(seconds=2)
FILES_AGAIN = timedelta(seconds=2)
"""How often the files of a certificate that others renew are looked at."""

REPORT_EVERY = timedelta(minutes=2)
REPORT_AGAIN = timedelta(seconds=5)
ACKNOWLEDGED_SECONDS = 5.0

_LOG = Log("agent")


class Condition(NamedTuple):
    """When the certificate ends (None: there is none yet) and is renewed, and how often in a row that failed."""

    expires: datetime | None
    next_rotation: datetime
    failures: int


class WorkloadIdentity:
    """One workload's certificate and trust. `keep` runs for ever, whatever the control plane does."""

    def __init__(
        self,
        settings: AgentSettings,
        client: CaClient | FileCertificates,
        secrets: SecretService,
        trust: TrustFolder | None = None,
        now: clock.Clock = clock.now,
    ) -> None:
        self._settings = settings
        self._client = client
        self._files = client if isinstance(client, FileCertificates) else None
        self._secrets = secrets
        self._trust = trust or TrustFolder(settings.root_path)
        self._now = now
        self._told = Told()
        self._current: WorkloadCertificate | None = None
        self._renewal = now()
        self._failures = 0
        self._error = ""
        self._strangers = 0  # certificates in a row from another issuer than the mesh announces
        self._report_at = now()

    @property
    def condition(self) -> Condition:
        """How the certificate is doing."""
        return Condition(self._current.expires if self._current else None, self._next_rotation(), self._failures)

    async def keep(self) -> None:
        """Renew when it is time, when the roots change, when another issuer signs; report what is in force."""
        self._told = self._trust.read()
        while True:
            if self._now() >= self._renewal or self._current is None:
                await self._renew()
            if self._current is not None and self._now() >= self._report_at:
                await self._report()
            await self._wait()

    async def _wait(self) -> None:
        """Until something is due, or the mesh's files have changed."""
        moment = self._renewal if self._current is None else min(self._renewal, self._report_at)

        def seconds_left() -> float:
            return (moment - self._now()).total_seconds()

        told = await self._trust.changed(self._told, seconds_left)
        if told is None:
            return
        before, self._told = self._told, told
        if told.digest != before.digest or told.besides != before.besides:
            _LOG.info("the mesh's roots changed", roots=told.digest[:16])
            self._publish()
        elif told.nudge != before.nudge:
            self._report_at = min(self._report_at, self._now() + _spread())
        if self._current is None:
            return
        if told.digest != before.digest or (told.issuer and told.issuer != self._current.issuer):
            # At most one certificate each second, but a change of the mesh's roots does not wait for a back-off.
            earliest = max(self._current.created + SHORTEST_LIFE, self._now())
            self._renewal = min(self._renewal, earliest + _spread())

    async def _renew(self) -> None:
        current, files = self._current, self._files
        if current is not None and files is not None and not files.changed() and self._now() < current.expires:
            self._renewal = self._now() + FILES_AGAIN
            return
        try:
            fresh = await self._client.certificate(self._current, self._roots())
        except (MutuaError, OSError, ValueError) as error:
            self._failed(error)
            return
        self._failures, self._error = 0, ""
        self._current = fresh
        self._publish()
        self._renewal = self._when_due(fresh)
        _LOG.info(
            "certificate received",
            identity=self._settings.identity,
            serial=f"{fresh.serial:x}",
            not_after=_text(fresh.expires),
            next_rotation=_text(self._next_rotation()),
        )

    def _when_due(self, fresh: WorkloadCertificate) -> datetime:
        if self._files is not None:
            return self._now() + FILES_AGAIN
        jitter = random.uniform(-1, 1) * self._settings.grace_ratio_jitter  # noqa: S311 - spread, not secrecy
        delay = rotation.delay(fresh.created, fresh.expires, self._now(), self._settings.grace_ratio, jitter)
        if self._told.issuer in ("", fresh.issuer):
            self._strangers = 0
        else:
            # Another replica signed that has not heard of the new issuer, or our file is behind: come back, not often.
            self._strangers += 1
            delay = min(delay, ISSUER_AGAIN * 2 ** min(self._strangers, 8))
        return self._now() + max(delay, SHORTEST_LIFE)

    def _next_rotation(self) -> datetime:
        """When the certificate will be another one; from files, by its end at the latest."""
        return self._current.expires if self._files is not None and self._current is not None else self._renewal

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._error = error.message if isinstance(error, MutuaError) else str(error)
        pause = endless_back_off(self._failures)
        self._renewal = self._now() + pause
        self._report_at = min(self._report_at, self._now())
        if self._failures & (self._failures - 1):
            return  # the 1st, 2nd, 4th, 8th… is told: an outage of hours fills no disk
        fields = {"error": error, "attempt": self._failures, "retry_in": f"{pause.total_seconds():.1f}s"}
        if self._current is None:
            _LOG.warn("no certificate yet, mutual TLS cannot start", **fields)
        elif self._now() < self._current.expires:
            _LOG.warn("renewal failed", valid_until=_text(self._current.expires), **fields)
        else:
            _LOG.error("the certificate has expired, peers refuse this workload", **fields)

    def _roots(self) -> bytes:
        """All that is trusted: what came with the certificate and what the file says; either may be the newer."""
        known = [self._current.roots] if self._current is not None else []
        return merged([*known, self._told.roots]).encode()

    def _publish(self) -> None:
        if self._current is None:
            return
        told, current = self._told, self._current
        trust = (
            {**dict.fromkeys(told.domains, self._roots()), **dict(told.foreign)}
            if told.foreign and not told.revoked.strip()
            else {}
        )
        self._secrets.publish(current.chain, current.key, self._roots(), told.revoked, trust)
        self._report_at = self._now()

    async def _report(self) -> None:
        """Tell the control plane what Envoy has acknowledged: a rotation of roots waits for nothing less."""
        current = self._current
        if current is None or self._now() >= current.expires:
            self._report_at = self._now() + REPORT_EVERY
            return
        if not await self._secrets.acknowledged(ACKNOWLEDGED_SECONDS):
            self._report_at = self._now() + REPORT_AGAIN
            return
        statement = IdentityStatement(
            pod=self._settings.pod,
            roots=agent_trust.digest(self._roots()),
            next_rotation=self._next_rotation(),
            error=self._error,
            failures=self._failures,
        )
        try:
            await self._client.report(current, statement, self._roots())
        except (MutuaError, OSError, ValueError) as error:
            _LOG.debug("report failed", error=error)
            self._report_at = self._now() + REPORT_AGAIN * random.uniform(1, 2)  # noqa: S311 - spread, not secrecy
        else:
            self._report_at = self._now() + REPORT_EVERY * random.uniform(0.8, 1.2)  # noqa: S311


def _spread() -> timedelta:
    return timedelta(seconds=random.uniform(0, SPREAD_SECONDS))  # noqa: S311 - spread, not secrecy


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
