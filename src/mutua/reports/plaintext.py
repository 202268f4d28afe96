"""Who still speaks plaintext: what all replicas of the control plane saw, as one table."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from mutua.reports.proxy_status import PlaintextSeen
from mutua.reports.table import render, shortened

HEADER: Final = ("CLIENT", "SERVER", "PORT", "OUTCOME", "COUNT", "LAST")
WIDE: Final = (*HEADER, "FIRST", "DRY RUN", "WHY")
NONE: Final = "No connection without mutual TLS was seen.\n"
OPEN: Final = "open"
"""In the place of a count: a connection has been open since before the first one ended."""
LISTED_COLUMNS: Final = 78


def merged(parts: Iterable[PlaintextSeen]) -> tuple[PlaintextSeen, ...]:
    """One entry for what several replicas saw of one client, server and port; the newest first."""
    found: dict[tuple[str, str, int, bool], PlaintextSeen] = {}
    for part in parts:
        key = (part.client, part.server, part.port, part.refused)
        earlier = found.get(key)
        found[key] = part if earlier is None else _sum(earlier, part)
    return tuple(sorted(found.values(), key=_newest_first))


def since(entries: Iterable[PlaintextSeen], now: datetime, within: timedelta) -> tuple[PlaintextSeen, ...]:
    """Those that were seen within that time."""
    return tuple(each for each in entries if each.last_seen is None or now - each.last_seen <= within)


def to(entries: Iterable[PlaintextSeen], namespace: str) -> tuple[PlaintextSeen, ...]:
    """Those whose client or server is in the namespace; "" is any."""
    start = f"{namespace}/"
    return tuple(
        each for each in entries if not namespace or each.client.startswith(start) or each.server.startswith(start)
    )


def table(entries: Sequence[PlaintextSeen], now: datetime, *, wide: bool = False) -> str:
    """One row per client, server, port and outcome, in 80 columns; below them why these clients have no mutual TLS."""
    if not entries:
        return NONE
    rows = [_row(each, now) for each in entries]
    if wide:
        return render(WIDE, [(*row, *_more(each, now)) for row, each in zip(rows, entries, strict=True)], padding=2)
    reasons: dict[str, list[str]] = {}
    for each in entries:
        clients = reasons.setdefault(each.reason, [])
        if each.client not in clients:
            clients.append(each.client)
    lines = [f"{reason}:\n  {_listed(clients)}\n" for reason, clients in reasons.items()]
    return render(HEADER, shortened(HEADER, rows, names=(0,), key=1, padding=2), padding=2) + "\n" + "".join(lines)


def objects(entries: Iterable[PlaintextSeen]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [msgspec.to_builtins(each) for each in entries]


def _row(entry: PlaintextSeen, now: datetime) -> tuple[str, ...]:
    return (
        entry.client,
        entry.server,
        str(entry.port),
        "refused" if entry.refused else "accepted",
        str(entry.connections) if entry.connections else OPEN,
        _ago(entry.last_seen, now),
    )


def _more(entry: PlaintextSeen, now: datetime) -> tuple[str, ...]:
    rehearsal = f"{entry.dry_run} would refuse {entry.would_refuse}" if entry.dry_run else "-"
    return _ago(entry.first_seen, now), rehearsal, entry.reason


def _listed(clients: Sequence[str], at_most: int = 5) -> str:
    more = f" and {len(clients) - at_most} more" if len(clients) > at_most else ""
    text = ", ".join(clients[:at_most]) + more
    return _listed(clients, at_most - 1) if len(text) > LISTED_COLUMNS and at_most > 1 else text


def _sum(one: PlaintextSeen, other: PlaintextSeen) -> PlaintextSeen:
    firsts = [each.first_seen for each in (one, other) if each.first_seen]
    lasts = [each.last_seen for each in (one, other) if each.last_seen]
    newest = other if _newest_first(other) < _newest_first(one) else one
    return msgspec.structs.replace(
        newest,
        connections=one.connections + other.connections,
        would_refuse=one.would_refuse + other.would_refuse,
        first_seen=min(firsts, default=None),
        last_seen=max(lasts, default=None),
    )


def _newest_first(entry: PlaintextSeen) -> tuple[float, str, str, int]:
    return (-entry.last_seen.timestamp() if entry.last_seen else 0.0, entry.client, entry.server, entry.port)


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "-"
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
