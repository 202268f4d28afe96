"""The agent's pages of metrics: Envoy's under Istio's names; and those with the agent's and the application's."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mutua.capture import PASSTHROUGH_SOURCE
from mutua.envoy.bootstrap import ENVOY_PAGE
from mutua.envoy.telemetry_tags import Names
from mutua.errors import UnavailableError
from mutua.injection.scrape import MERGED_PAGE, Scrape
from mutua.reports import exposition
from mutua.servers.admin import Sample
from mutua.servers.admin import exposition as printed
from mutua.servers.app_probes import unverified
from mutua.system import envoy_admin
from mutua.system.logs import Log

TEXT = "text/plain; version=0.0.4; charset=utf-8"
APPLICATION_SECONDS = 5.0
APPLICATION_BYTES = 16 * 1024 * 1024
ENVOY_SECONDS = 5.0
_OK = 200
_LOG = Log("metrics")


class AgentMetrics:
    """Answers scrapers. Scrapes at the same time share one answer, so that they ask an application once."""

    def __init__(
        self,
        admin_port: int,
        pod_address: str,
        names: Names,
        application: Scrape | None,
        own: Callable[[], Iterable[Sample]],
    ) -> None:
        """`names`: what metrics call the workload. `own`: what the agent itself has to tell."""
        self._names = names
        self._admin_port = admin_port
        self._host = pod_address
        self._source = PASSTHROUGH_SOURCE[ip_address(pod_address).version].partition("/")[0]
        self._application = application
        self._own = own
        self._scrapes = 0
        self._failures = {"envoy": 0, "application": 0}
        self._asked: asyncio.Task[bytes] | None = None

    def routes(self) -> list[Route]:
        """For the agent's web application."""
        return [Route(MERGED_PAGE, self._merged, methods=["GET"]), Route(ENVOY_PAGE, self._envoy, methods=["GET"])]

    async def _envoy(self, _request: Request) -> Response:
        try:
            return Response(await self._envoys_part(), media_type=TEXT)
        except UnavailableError as error:
            return PlainTextResponse(f"{error.message}\n", 503)

    async def _merged(self, _request: Request) -> Response:
        if self._asked is None:
            self._asked = asyncio.create_task(self._page())
            self._asked.add_done_callback(self._answered)
        return Response(await asyncio.shield(self._asked), media_type=TEXT)

    def _answered(self, _task: "asyncio.Task[bytes]") -> None:
        self._asked = None

    async def _page(self) -> bytes:
        """All parts that can be had; a part that cannot be is counted, and the page says so."""
        self._scrapes += 1
        envoys, applications = await asyncio.gather(
            self._part("envoy", self._envoys_part), self._part("application", self._applications_part)
        )
        return envoys + applications + printed((*self._own(), *self._samples())).encode()

    async def _part(self, name: str, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        try:
            return await ask()
        except (UnavailableError, TimeoutError, ValueError, OSError) as error:
            self._failures[name] += 1
            if self._failures[name] & (self._failures[name] - 1) == 0:
                # The 1st, 2nd, 4th, 8th… is told.
                _LOG.warn("a part of the metrics cannot be had", part=name, error=error, times=self._failures[name])
            return b""

    async def _envoys_part(self) -> bytes:
        status, page = await asyncio.to_thread(
            envoy_admin.request, "GET", "/stats/prometheus", port=self._admin_port, timeout_seconds=ENVOY_SECONDS
        )
        if status != _OK:
            raise UnavailableError(f"Envoy answers /stats/prometheus with {status}")
        return await asyncio.to_thread(exposition.envoy_page, page, self._names)

    async def _applications_part(self) -> bytes:
        """The application's own page, from the pod's own address and from nowhere else: redirects are not followed."""
        if self._application is None:
            return b""
        import httpx2

        scrape = self._application
        host = f"[{self._host}]" if ":" in self._host else self._host
        url = f"{scrape.scheme}://{host}:{scrape.port}{scrape.path}"
        transport = httpx2.AsyncHTTPTransport(verify=unverified(), local_address=self._source)
        page = bytearray()
        try:
            async with (
                asyncio.timeout(APPLICATION_SECONDS),
                httpx2.AsyncClient(transport=transport, trust_env=False, timeout=None) as client,
                client.stream("GET", url, headers={"Accept": "text/plain;version=0.0.4"}) as response,
            ):
                if response.status_code != _OK:
                    raise ValueError(f"{url} answers {response.status_code}")
                if not response.headers.get("content-type", "text/plain").startswith(
                    ("text/plain", "application/openmetrics")
                ):
                    raise ValueError(f"{url} answers with {response.headers['content-type']}, not text")
                async for chunk in response.aiter_bytes():
                    page += chunk
                    if len(page) > APPLICATION_BYTES:
                        raise ValueError(f"{url} has more than {APPLICATION_BYTES >> 20} MiB of metrics")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ValueError(f"{url}: {type(error).__name__} {error}") from error
        return await asyncio.to_thread(exposition.application_page, bytes(page))

    def _samples(self) -> Iterable[Sample]:
        yield Sample("istio_agent_scrapes_total", self._scrapes, kind="counter")
        for part, count in self._failures.items():
            yield Sample("istio_agent_scrape_failures_total", count, {"type": part}, kind="counter")
