"""The table of an Envoy's routes: which host and path leads where."""

from collections.abc import Iterable, Mapping
from typing import Any

from mutua.reports.table import render

HEADER = ("NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE")
SHORT_HEADER = ("NAME", "VIRTUAL HOSTS")
_SHOWN_DOMAINS = 2
_SUFFIXES = (".svc.cluster.local", ".svc")


def table(configurations: Iterable[Mapping[str, Any]], *, verbose: bool = True, prefix: str = "") -> str:
    """One row per route, or with `verbose` off one per configuration."""
    if not verbose:
        counts = [
            (prefix + str(route.get("name", "")), str(len(route.get("virtual_hosts") or ())))
            for route in configurations
        ]
        return render(SHORT_HEADER, sorted(counts), padding=5)
    rows = []
    for configuration in configurations:
        for host in configuration.get("virtual_hosts") or ():
            head = (prefix + str(configuration.get("name", "")), str(host.get("name", "")), domains(host))
            routes = host.get("routes") or ()
            if not routes:
                rows.append((*head, "/*", "404"))
            rows += [(*head, match(route.get("match") or {}), "") for route in routes if not _passes_through(route)]
    return render(HEADER, sorted(rows, key=lambda row: (_port(row[0]), row)), padding=5)


def match(rule: Mapping[str, Any]) -> str:
    """A route's path match in one word: `/x*`, `/x`, `PathPrefix:/x`, `regex <expression>`."""
    if "prefix" in rule:
        return f"{rule['prefix']}*"
    if "path_separated_prefix" in rule:
        return f"PathPrefix:{rule['path_separated_prefix']}"
    if "path" in rule:
        return str(rule["path"])
    if "safe_regex" in rule:
        return f"regex {rule['safe_regex'].get('regex', '')}"
    return "/*"


def domains(host: Mapping[str, Any]) -> str:
    """The domain, or of several the distinct ones without ports and cluster suffixes, two of them at most."""
    names = [str(domain) for domain in host.get("domains") or ()]
    if len(names) == 1:
        return names[0]
    plain = list(dict.fromkeys(name for name in names if not _is_expansion(name, names)))
    shown = ", ".join(plain[:_SHOWN_DOMAINS])
    return f"{shown} + {len(plain) - _SHOWN_DOMAINS} more..." if len(plain) > _SHOWN_DOMAINS else shown


def _is_expansion(name: str, names: list[str]) -> bool:
    """Whether another domain of the same host says the same more briefly, or it is one with a port."""
    if name.endswith(".") and name.rstrip(".") in names:
        return True
    host, colon, port = name.rpartition(":")
    if colon and port.isdigit() and not name.startswith("["):
        return host in names
    return any(name.endswith(suffix) and name.removesuffix(suffix) in names for suffix in _SUFFIXES)


def _passes_through(route: Mapping[str, Any]) -> bool:
    return str((route.get("route") or {}).get("cluster", "")) == "PassthroughCluster"


def _port(name: str) -> int:
    """Names of routes start or end with their port; those without one come first."""
    digits = name.rpartition("/")[2].rpartition(":")[2].rpartition(".")[2]
    return int(digits) if digits.isdigit() else -1
