"""What an Envoy was started with, in three lines."""

from collections.abc import Mapping
from typing import Any

from mutua.reports.table import render


def table(section: Mapping[str, Any]) -> str:
    """From a BootstrapConfigDump: versions of mesh, proxy and Envoy; "" where the bootstrap has none."""
    node = (section.get("bootstrap") or {}).get("node") or {}
    metadata = node.get("metadata") or {}
    build = node.get("user_agent_build_version") or {}
    version = build.get("version") or {}
    details = build.get("metadata") or {}
    number = ".".join(str(version.get(part, 0)) for part in ("major_number", "minor_number", "patch"))
    words = [str(details[key]) for key in ("revision.status", "build.type", "ssl.version") if key in details]
    rows = [
        ("Istio Proxy Version:", str(metadata.get("ISTIO_PROXY_SHA", ""))),
        ("Envoy Version:", "/".join([number, *words])),
    ]
    return render(("Istio Version:", str(metadata.get("ISTIO_VERSION", ""))), rows, padding=1)
