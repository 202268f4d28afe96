"""Issuers' public keys from where RequestAuthentications say they are: fetched, refreshed, and never from inside.

Who may write a RequestAuthentication must not be able to make the control plane talk to itself, to its node or to the
cloud's metadata service. So names are resolved here, the address is judged, and exactly that address is dialled.
"""

import asyncio
import ipaddress
import random
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import httpx2
import msgspec

from mutua.errors import MutuaError, RefusedError
from mutua.system.logs import Log
from mutua.system.tls import believing

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

REFRESH_SECONDS: Final = 20 * 60.0
"""How often keys are fetched again. Source: Istio's PILOT_JWT_PUB_KEY_REFRESH_INTERVAL."""

KEPT_SECONDS: Final = 24 * 60 * 60.0
"""How long the last good keys stay in force while their issuer cannot be reached."""

FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 5 * 60.0
TIMEOUT_SECONDS: Final = 5.0
LARGEST_ANSWER: Final = 256 * 1024
AT_ONCE: Final = 8
MOST_LOCATIONS: Final = 1000

METADATA_SERVICES: Final = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")))
"""Those of clouds that are not at link-local addresses."""

_LOG: Final = Log("keys")


@dataclass
class _Entry:
    """One location. Times are seconds of the event loop's clock."""

    due: float
    key_set: str = ""
    fetched_at: float = 0.0
    failures: int = 0
    problem: str = ""


def may_be_dialled(address: Address) -> bool:
    """Whether keys may be fetched from an address. Private networks may: issuers run in clusters, too."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return may_be_dialled(address.ipv4_mapped)
    return address not in METADATA_SERVICES and not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
    )


class KeySets:
    """Follows the locations that are wanted. `changed` is called when `current` or `problems` are others."""

    WHAT = "an issuer's keys"
    WHEN_TOO_OLD = "its tokens are refused"

    def __init__(
        self,
        changed: Callable[[], None],
        *,
        judge: Callable[[Address], bool] = may_be_dialled,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`judge` says which addresses may be dialled; `tls` whom to believe, by default the system's authorities."""
        self._changed = changed
        self._judge = judge
        self._entries: dict[str, _Entry] = {}
        self._news = asyncio.Event()
        self._tls = tls or believing()

    @property
    def current(self) -> Mapping[str, str]:
        """Key sets by location; a location whose keys cannot be had is missing."""
        return {location: entry.key_set for location, entry in self._entries.items() if entry.key_set}

    @property
    def problems(self) -> Mapping[str, str]:
        """Why the last fetch failed, by location."""
        return {location: entry.problem for location, entry in self._entries.items() if entry.problem}

    def want(self, locations: frozenset[str]) -> None:
        """Follow these locations from now on, and no others."""
        wanted = sorted(locations)[:MOST_LOCATIONS]
        if len(wanted) < len(locations):
            _LOG.error("too many locations, some are not followed", what=self.WHAT, limit=MOST_LOCATIONS)
        if self._entries.keys() != set(wanted):
            now = asyncio.get_running_loop().time()
            self._entries = {location: self._entries.get(location) or _Entry(due=now) for location in wanted}
            self._news.set()

    async def run(self) -> None:
        """Fetch whatever is due, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = [location for location, entry in self._entries.items() if entry.due <= clock()]
            before = (self.current, self.problems)
            for start in range(0, len(due), AT_ONCE):
                await asyncio.gather(*map(self._refresh, due[start : start + AT_ONCE]))
            if (self.current, self.problems) != before:
                self._changed()
            self._news.clear()
            soonest = min((entry.due for entry in self._entries.values()), default=None)
            try:
                async with asyncio.timeout(None if soonest is None else max(0.0, soonest - clock())):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _refresh(self, location: str) -> None:
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                key_set = await self._fetch(location)
        except (MutuaError, httpx2.HTTPError, OSError, ValueError) as error:  # TimeoutError is an OSError
            self._failed(location, str(error) or f"no answer within {TIMEOUT_SECONDS:g} seconds")
            return
        entry = self._entries.get(location)
        if entry is not None:
            self._entries[location] = _Entry(_spread(clock() + REFRESH_SECONDS, REFRESH_SECONDS), key_set, clock())

    def _failed(self, location: str, problem: str) -> None:
        entry, now = self._entries.get(location), asyncio.get_running_loop().time()
        if entry is None:
            return
        if entry.problem != problem:
            _LOG.warn(f"{self.WHAT} cannot be fetched", location=location, problem=problem, kept=bool(entry.key_set))
        delay = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0**entry.failures)
        entry.due, entry.failures, entry.problem = _spread(now + delay, delay), min(entry.failures + 1, 20), problem
        if entry.key_set and now - entry.fetched_at > KEPT_SECONDS:
            _LOG.error(f"the last good answer for {self.WHAT} is too old; {self.WHEN_TOO_OLD}", location=location)
            entry.key_set = ""

    async def _fetch(self, location: str) -> str:
        """The key set at a location, or where an issuer's discovery document at that location says it is."""
        text, document = await self._get(location)
        if isinstance(document, dict) and "keys" not in document and isinstance(document.get("jwks_uri"), str):
            text, document = await self._get(document["jwks_uri"])
        if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
            raise RefusedError("the answer is no JSON Web Key Set")
        return text

    async def _get(self, location: str) -> tuple[str, Any]:
        parts = urlsplit(location)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise RefusedError(f"{location!r} is no http or https address")
        address = await self._address(parts)
        host = f"[{address}]" if address.version == 6 else str(address)
        dialled = parts._replace(netloc=f"{host}:{parts.port or _DEFAULT_PORTS[parts.scheme]}", fragment="")
        # Proxies of the environment would dial for us, and redirects lead elsewhere: neither is followed.
        async with (
            httpx2.AsyncClient(verify=self._tls, trust_env=False, follow_redirects=False) as client,
            client.stream(
                "GET",
                dialled.geturl(),
                headers={"host": parts.netloc, "accept": "application/json", "accept-encoding": "identity"},
                extensions={"sni_hostname": parts.hostname},
            ) as answer,
        ):
            if answer.status_code != httpx2.codes.OK:
                raise RefusedError(f"the answer is HTTP {answer.status_code}; only 200 is taken, and no redirect")
            body = b""
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > LARGEST_ANSWER:
                    raise RefusedError(f"the answer is longer than {LARGEST_ANSWER} bytes")
        try:
            return body.decode(), msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise RefusedError("the answer is not JSON") from error

    async def _address(self, parts: SplitResult) -> Address:
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port, type=1)
        addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
        allowed = [address for address in addresses if self._judge(address)]
        if not allowed:
            raise RefusedError(
                f"{parts.hostname} is at {', '.join(map(str, addresses))}, where no keys are fetched from"
            )
        return allowed[0]


_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def _spread(moment: float, interval: float) -> float:
    """A little later, so that replicas and issuers do not fall into step."""
    return moment + random.random() * interval / 10  # noqa: S311 - no secret
