"""What the control plane answers to the node and to Prometheus."""

import httpx2

from mutua.servers import admin
from mutua.servers.admin import Sample


async def test_readiness_says_what_is_missing() -> None:
    """503 with the reason, then 200."""
    reasons = ["waiting for services", ""]
    application = admin.application(lambda: reasons.pop(0), "1.2.3")
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(application), base_url="http://test") as client:
        before, after = [await client.get("/ready") for _ in range(2)]
        version = await client.get("/version")

    assert (before.status_code, before.text) == (503, "waiting for services")
    assert after.status_code == 200
    assert version.json() == {"version": "1.2.3"}


async def test_metrics_in_the_format_of_prometheus() -> None:
    """Help and type once per name; label values escaped."""
    samples = (
        Sample("pods_injected_total", 3, {"namespace": 'a"b\\c\n'}, "counter", "Pods that got a sidecar."),
        Sample("pods_injected_total", 1, {"namespace": "web"}, "counter"),
        Sample("proxies", 2.5),
    )

    assert admin.exposition(samples) == (
        "# HELP pods_injected_total Pods that got a sidecar.\n"
        "# TYPE pods_injected_total counter\n"
        'pods_injected_total{namespace="a\\"b\\\\c\\n"} 3\n'
        'pods_injected_total{namespace="web"} 1\n'
        "# TYPE proxies gauge\n"
        "proxies 2.5\n"
    )
