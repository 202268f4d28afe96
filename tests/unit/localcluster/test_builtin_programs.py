"""The programs behind well-known images, against each other."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from localcluster.builtin import curl
from localcluster.builtin.echo import EchoHandler
from localcluster.builtin.web import WebHandler, WebServer


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts a server with a handler; its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(handler: Callable[..., object]) -> str:
        server = WebServer(("127.0.0.1", 0), handler)  # type: ignore[arg-type]
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def misbehave() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Starts a server that does something else than HTTP with its connections; its port."""
    listeners: list[socket.socket] = []

    def start(behaviour: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    behaviour(connection)

        threading.Thread(target=accept, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text("home\n")
    (tmp_path / "folder").mkdir()
    return tmp_path


def test_files_are_served_and_what_is_missing_looks_like_nginx(serve: Callable[..., str], site: Path) -> None:
    with httpx2.Client(base_url=serve(partial(WebHandler, directory=str(site)))) as client:
        home = client.get("/")
        assert (home.status_code, home.text, home.http_version) == (200, "home\n", "HTTP/1.1")
        missing = client.get("/api/x")
        assert missing.status_code == 404
        assert "<center><h1>404 Not Found</h1></center>" in missing.text
        assert client.get("/folder/").status_code == 403
        assert client.get("/../../etc/passwd").status_code == 404
        assert client.delete("/api/x").status_code == 405
        head = client.head("/")
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "5", b"")


def test_without_an_index_there_is_a_welcome_page(serve: Callable[..., str], tmp_path: Path) -> None:
    answer = httpx2.get(serve(partial(WebHandler, directory=str(tmp_path / "none"))))

    assert "Welcome to nginx!" in answer.text


def test_every_request_is_one_line_of_the_log(
    serve: Callable[..., str], site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    httpx2.get(serve(partial(WebHandler, directory=str(site))) + "/a?b=c", headers={"User-Agent": "tester"})

    line = capsys.readouterr().out
    assert line.startswith("127.0.0.1 - - [")
    assert '"GET /a?b=c HTTP/1.1" 404 - "-" "tester" "-"\n' in line


def test_the_echo_says_what_it_received(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTNAME", "web-0")
    url = serve(EchoHandler)

    said = httpx2.post(f"{url}/a?b", content=b"hello", headers={"X-One": "1"}).json()

    assert (said["method"], said["path"], said["body"], said["pod"]) == ("POST", "/a?b", "hello", "web-0")
    assert said["headers"]["X-One"] == "1"
    assert httpx2.get(f"{url}/status/503").status_code == 503
    assert httpx2.get(f"{url}/status/999").status_code == 400
    assert set(httpx2.get(f"{url}/headers").json()) == {"headers"}


def test_curl_shows_what_it_is_asked_for(
    serve: Callable[..., str], site: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    url = serve(partial(WebHandler, directory=str(site)))
    echo = serve(EchoHandler)

    assert curl.main(["-s", url]) == 0
    assert b"home\n" in capsysbinary.readouterr().out
    assert curl.main(["-s", "-o", str(tmp_path / "out"), "-w", "%{http_code} %{size_download}\\n", url]) == 0
    assert capsysbinary.readouterr().out.endswith(b"200 5\n")
    assert (tmp_path / "out").read_text() == "home\n"
    assert curl.main(["-sI", url]) == 0
    assert b"HTTP/1.1 200 OK\r\nServer: nginx\r\n" in capsysbinary.readouterr().out
    assert curl.main(["-sv", url]) == 0
    shown = capsysbinary.readouterr().err.decode()
    assert "> GET / HTTP/1.1\n> Host: 127.0.0.1:" in shown
    assert "< HTTP/1.1 200 OK\n" in shown
    port = echo.rpartition(":")[2]
    named = ["-s", "--resolve", f"shop.test:{port}:127.0.0.1", f"http://shop.test:{port}/x"]
    assert curl.main([*named, "-d", "a=1", "-d", "b=2", "-H", "X-One: 1", "-H", "Accept:"]) == 0
    said = capsysbinary.readouterr().out.decode()
    assert f'"Host": "shop.test:{port}"' in said
    assert '"body": "a=1&b=2"' in said
    assert '"X-One": "1"' in said
    assert '"Accept"' not in said


def reset(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    ("scheme", "behaviour", "code"),
    [
        ("http", lambda connection: connection.recv(1000), 52),
        ("http", reset, 56),
        ("http", lambda connection: connection.recv(1000) and connection.recv(1), 28),
        ("https", reset, 35),
        ("https", lambda connection: connection.recv(1000), 35),
        ("https", lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), 35),
    ],
)
def test_curl_ends_with_curls_exit_codes(
    misbehave: Callable[[Callable[[socket.socket], None]], int],
    capsysbinary: pytest.CaptureFixture[bytes],
    scheme: str,
    behaviour: Callable[[socket.socket], None],
    code: int,
) -> None:
    assert (
        curl.main(["-sS", "-m", "0.5", "-w", "%{http_code}", f"{scheme}://127.0.0.1:{misbehave(behaviour)}/"]) == code
    )

    shown = capsysbinary.readouterr()
    assert shown.err.startswith(b"curl: (%d) " % code)
    assert shown.out == b"000"


def test_curl_tells_of_refused_connections_names_and_answers(
    serve: Callable[..., str], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]

    assert curl.main(["-s", f"http://127.0.0.1:{closed}"]) == 7
    assert curl.main(["-s", "http://no-such-host.invalid"]) == 6
    assert curl.main(["-s", "ftp://127.0.0.1"]) == 1
    assert curl.main(["-sf", serve(EchoHandler) + "/status/403"]) == 22
    assert capsysbinary.readouterr().err == b""
