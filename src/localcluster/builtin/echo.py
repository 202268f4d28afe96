"""A server that says what it received, and in which pod: for looking at what a mesh does to a request."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from http import HTTPStatus
from pathlib import Path

# Run by its path, without site: the package is found where this file is.
sys.path.insert(0, str(Path(__file__).parents[2]))

from localcluster.builtin.web import WebHandler, WebServer, serve

_LONGEST_DELAY_SECONDS = 300.0
_LONGEST_BODY = 1 << 20


class EchoHandler(WebHandler):
    """`/status/CODE` answers with that code, `/delay/SECONDS` after that time, `/headers` with the headers alone."""

    server_version = "echo"

    def do_GET(self) -> None:  # noqa: N802 http.server's name
        """Answer a request of any method."""
        try:
            length = min(int(self.headers.get("Content-Length", 0)), _LONGEST_BODY)
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        body = self.rfile.read(length)
        status = HTTPStatus.OK
        _, first, *rest = [*self.path.partition("?")[0].split("/"), ""]
        try:
            if first == "status":
                status = HTTPStatus(int(rest[0]))
            elif first == "delay":
                time.sleep(min(float(rest[0]), _LONGEST_DELAY_SECONDS))
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        answer: dict[str, object] = {"headers": dict(self.headers.items())}
        if first != "headers":
            answer |= {
                "method": self.command,
                "path": self.path,
                "body": body.decode(errors="replace"),
                "pod": os.environ.get("HOSTNAME", ""),
                "client": self.client_address[0],
            }
        content = json.dumps(answer, indent=2).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET  # noqa: N815 http.server's names


def main() -> None:
    """Serve echoes."""
    arguments = argparse.ArgumentParser(prog="echo")
    arguments.add_argument("--port", type=int, default=int(os.environ.get("PORT", "80")))
    serve(WebServer(("", arguments.parse_args().port), EchoHandler))


if __name__ == "__main__":
    main()
