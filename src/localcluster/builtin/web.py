"""A small web server in place of nginx and httpd: static files, nginx's pages for what is missing."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, NoReturn

WELCOME = b"""<!DOCTYPE html>
<html>
<head><title>Welcome to nginx!</title></head>
<body>
<h1>Welcome to nginx!</h1>
<p>This page comes from the small web server that stands in for nginx on this machine.</p>
</body>
</html>
"""
_REASONS = {HTTPStatus.METHOD_NOT_ALLOWED: "Not Allowed"}  # nginx's own word


class WebHandler(SimpleHTTPRequestHandler):
    """Answers GET and HEAD with files, everything else as nginx refuses it."""

    protocol_version = "HTTP/1.1"
    server_version = "nginx"
    sys_version = ""
    # Answers go out at once: a small answer must not wait for an acknowledgement (Nagle's algorithm).
    disable_nagle_algorithm = True
    index_pages = ("index.html", "index.htm")

    def version_string(self) -> str:
        """The Server header."""
        return self.server_version

    def send_head(self) -> Any:
        """The file to send; the welcome page where nobody has put one."""
        if self.path.split("?", 1)[0] in {"/", "/index.html"} and not self._has_index():
            return self._page(HTTPStatus.OK, WELCOME)
        return super().send_head()

    def list_directory(self, path: Any) -> Any:
        """Folders are not listed."""
        self.send_error(HTTPStatus.FORBIDDEN)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The error page, as nginx words it."""
        status = HTTPStatus(code)
        title = f"{code} {_REASONS.get(status, status.phrase)}"
        page = (
            f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
            f"<hr><center>{self.server_version}</center>\r\n</body>\r\n</html>\r\n"
        )
        # A body that nobody read would be taken for the next request.
        if code >= HTTPStatus.BAD_REQUEST and self.command not in {"GET", "HEAD"}:
            self.close_connection = True
        output = self._page(status, page.encode())
        if output is not None and self.command != "HEAD":
            self.wfile.write(output.read())

    def handle_other(self) -> None:
        """A method that files do not have."""
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = handle_other  # noqa: N815 http.server's names

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """One line in nginx's combined format."""
        now = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
        status = code.value if isinstance(code, HTTPStatus) else code
        headers = getattr(self, "headers", None) or {}
        referrer, agent = headers.get("Referer", "-"), headers.get("User-Agent", "-")
        forwarded = headers.get("X-Forwarded-For", "-")
        request = self.requestline.replace('"', "\\x22")
        print(
            f'{self.client_address[0]} - - [{now}] "{request}" {status} {size} "{referrer}" "{agent}" "{forwarded}"',
            flush=True,
        )

    def log_error(self, format: str, *args: Any) -> None:
        """Errors are in the access log already."""

    def _has_index(self) -> bool:
        return any(os.path.exists(os.path.join(self.directory, name)) for name in self.index_pages)  # noqa: PTH110, PTH118

    def _page(self, status: HTTPStatus, content: bytes) -> BinaryIO:
        from io import BytesIO

        self.send_response(status, _REASONS.get(status))
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", formatdate(usegmt=True))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        return BytesIO(content)


class WebServer(ThreadingHTTPServer):
    """A thread for each connection: meshes keep few, and keep them long."""

    daemon_threads = True
    request_queue_size = 512
    allow_reuse_address = True

    def server_bind(self) -> None:
        """Bind without asking DNS for the host's name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def serve(server: WebServer) -> NoReturn:
    """Serve until SIGTERM, SIGQUIT or SIGINT. As PID 1 of a container, only a handler makes a signal count."""
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    threading.stack_size(256 * 1024)
    server.serve_forever(poll_interval=3600)
    raise SystemExit(0)


def main() -> None:
    """Serve files."""
    arguments = argparse.ArgumentParser(prog="web")
    arguments.add_argument("--root", default="/usr/share/nginx/html", help="the folder of files")
    arguments.add_argument("--port", type=int, default=80)
    options = arguments.parse_args()
    serve(WebServer(("", options.port), partial(WebHandler, directory=options.root)))


if __name__ == "__main__":
    main()
