"""One agent with a real Envoy, run as a pod runs it but for its root folder and ports."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fakes.mesh_control_plane import NAME, ControlPlane

PATIENCE_SECONDS = 20.0


class Agent:
    """One `mutua-agent proxy sidecar` with its own folder as root, and ports of its own."""

    def __init__(self, control_plane: ControlPlane, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.admin_port, self.readiness_port, self.metrics_port = free_ports(3)
        proxy = {
            "discoveryAddress": f"127.0.0.1:{control_plane.renewal_port}",
            "proxyAdminPort": self.admin_port,
            "concurrency": 1,
        }
        self.environment = {
            "PATH": os.environ["PATH"],
            "MUTUA_ROOT": str(folder),
            "POD_NAME": "web-0",
            "POD_NAMESPACE": "shop",
            "INSTANCE_IP": "10.1.2.3",
            "SERVICE_ACCOUNT": "web",
            "CA_ADDR": f"127.0.0.1:{control_plane.token_port}",
            "ISTIOD_SAN": NAME,
            "PROXY_CONFIG": json.dumps(proxy),
            "ENVOY_STATUS_PORT": str(self.readiness_port),
            "ENVOY_PROMETHEUS_PORT": str(self.metrics_port),
        } | environment
        self.log_path = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it."""
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "mutua.programs.agent",
                    "proxy",
                    "sidecar",
                    "--domain",
                    "shop.svc.cluster.local",
                ],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """Of the agent."""
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        """All that it and Envoy said."""
        return self.log_path.read_text()

    async def exit_code(self) -> int:
        """Once it has ended."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, PATIENCE_SECONDS)

    def envoy_pid(self) -> int:
        """Of its one child."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        assert len(children) == 1
        return int(children[0])

    async def get(self, path: str, port: int = 0, method: str = "GET") -> tuple[int, bytes]:
        """Status and body from Envoy's admin interface, or from one of its own ports."""
        return await asyncio.to_thread(fetch, f"http://127.0.0.1:{port or self.admin_port}{path}", method)

    async def until(self, condition: Callable[[], Any]) -> Any:
        """What `condition` (may be a coroutine function) returns once that is true; fails loudly with the log."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    found = condition()
                    found = await found if asyncio.iscoroutine(found) else found
                except OSError:
                    found = None
                if found:
                    return found
                assert self.process is not None
                assert self.process.poll() is None, self.log
                await asyncio.sleep(0.01)

    async def ready(self) -> None:
        """Once its readiness port answers 200."""

        async def answers() -> bool:
            return (await self.get("/healthz/ready", self.readiness_port))[0] == 200

        await self.until(answers)

    async def secrets(self) -> dict[str, Any]:
        """Envoy's active secrets by name."""
        _, body = await self.get("/config_dump?resource=dynamic_active_secrets")
        return {entry["name"]: entry["secret"] for entry in json.loads(body).get("configs", [])}

    async def statistic(self, name: str) -> int:
        """One counter or gauge of Envoy's; 0 where it does not exist."""
        _, body = await self.get(f"/stats?filter=^{name}$")
        return int(body.split(b": ")[1]) if body.strip() else 0

    def kill(self) -> None:
        """End it, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


def fetch(url: str, method: str = "GET") -> tuple[int, bytes]:
    """Status and body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
