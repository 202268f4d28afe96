"""The one connection that verify-mtls makes from a pod: what it says of each kind of answer."""

import http.server
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mutua.system import touch


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path's server was made for, and keeps what was asked."""

    asked: list[str] = []  # noqa: RUF012 - shared on purpose
    status, by_server = 200, True

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        self.send_response(self.status)
        if self.by_server:
            self.send_header("x-envoy-upstream-service-time", "1")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def server(status: int, *, by_server: bool) -> Iterator[int]:
    handler = type("Handler", (Answers,), {"status": status, "by_server": by_server, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running.server_address[1]
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "by_server", "passed"), [(200, True, True), (403, False, True), (503, True, True), (503, False, False)]
)
def test_an_answer_of_the_server_is_told_from_one_of_the_own_sidecar(
    status: int, by_server: bool, passed: bool
) -> None:
    with server(status, by_server=by_server) as port:
        assert touch.request("127.0.0.1", port, "mark") == {"passed": passed, "answer": f"HTTP {status}"}


def test_who_does_not_answer_is_said() -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        for made in (touch.request("127.0.0.1", port, "mark"), touch.connection("127.0.0.1", port)):
            assert made["passed"] is False
            assert "Refused" in str(made["answer"])


def test_a_connection_that_is_closed_at_once_did_not_pass() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]

        def close_the_first() -> None:
            listening.accept()[0].close()

        thread = threading.Thread(target=close_the_first)
        thread.start()
        assert touch.connection("127.0.0.1", port) == {"passed": False, "answer": "closed at once"}
        thread.join()
        assert touch.connection("127.0.0.1", port) == {"passed": True, "answer": "connected"}


def test_it_runs_as_a_text_without_the_package() -> None:
    with server(200, by_server=True) as port:
        source = Path(touch.__file__).read_text()
        words = [sys.executable, "-I", "-S", "-c", source, "127.0.0.1", str(port), "mark", "http"]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(done.stdout) == {"passed": True, "answer": "HTTP 200"}
