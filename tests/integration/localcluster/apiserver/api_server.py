"""A real API server process on a loopback socket, and the clients that tests point at it."""

import base64
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import kubectl as kubectl_binary
from localcluster import kubeconfig, pki
from localcluster.paths import ClusterPaths


@dataclass
class ApiServer:
    """`start` and `kill` it as often as wanted; its data stays."""

    paths: ClusterPaths
    listener: socket.socket
    process: subprocess.Popen[bytes] | None = field(default=None)

    @classmethod
    def create(cls, directory: Path) -> "ApiServer":
        """Make the cluster's files, and bind the socket that all its processes serve."""
        paths = ClusterPaths(directory)
        pki.ensure(paths, (), (), datetime.now(UTC))
        listener = socket.create_server(("127.0.0.1", 0))
        server = cls(paths, listener)
        kubeconfig.write(paths, server.port)
        return server

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.listener.getsockname()[1])

    def start(self) -> None:
        """Start the process and wait until it is ready: the first request waits in the socket's queue."""
        number = self.listener.fileno()
        command = [sys.executable, "-m", "localcluster.apiserver", "--directory", str(self.paths.directory)]
        with (self.paths.directory / "apiserver.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--listen-fd", str(number)], pass_fds=[number], stderr=log, stdout=log
            )
        assert self.request("GET", "/readyz")[0] == 200

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End the process; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def close(self) -> None:
        """End everything; the server must not have logged a failure."""
        if self.process is not None and self.process.poll() is None:
            self.kill(signal.SIGTERM)
        self.listener.close()

    @property
    def log(self) -> str:
        """What the server wrote."""
        return (self.paths.directory / "apiserver.log").read_text()

    def context(self) -> ssl.SSLContext:
        """TLS that trusts the cluster."""
        return ssl.create_default_context(cafile=str(self.paths.ca_certificate))

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        raw: bytes | None = None,
        **headers: str,
    ) -> tuple[int, Any]:
        """One request with the admin's token (or `token`, "" for none): the code, and JSON or text."""
        found = self.paths.admin_token.read_text() if token is None else token
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if found:
            sent["Authorization"] = f"Bearer {found}"
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.context()) as response:  # noqa: S310
                return response.status, _decoded(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error.read())

    def kubectl(self, *arguments: str, stdin: str = "", succeeds: bool = True, timeout: float = 60) -> str:
        """Run real kubectl; what it prints (both streams if it has to fail)."""
        done = subprocess.run(
            [kubectl_binary.find(), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "KUBECONFIG": str(self.paths.kubeconfig), "KUBECACHEDIR": str(self.paths.run / "cache")},
        )
        assert (done.returncode == 0) is succeeds, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout if succeeds else done.stdout + done.stderr


class Watch:
    """An open watch; `event` reads the next."""

    def __init__(self, server: ApiServer, path: str, accept: str = "application/json") -> None:
        self._connection = HTTPSConnection("127.0.0.1", server.port, context=server.context(), timeout=20)
        token = server.paths.admin_token.read_text()
        self._connection.request("GET", path, headers={"Authorization": f"Bearer {token}", "Accept": accept})
        self._response = self._connection.getresponse()
        self.code = self._response.status

    def event(self) -> Any:
        return dict(json.loads(self._response.readline()))

    def rest(self) -> list[Any]:
        return [json.loads(line) for line in self._response.read().splitlines()]

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._connection.close()


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode()


def encoded(content: bytes) -> str:
    """Base64 text."""
    return base64.b64encode(content).decode()
