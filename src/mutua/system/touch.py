"""One connection out of a pod, made by `python3 -c THIS HOST PORT MARK http|tcp` in a container of it.

It goes the way that an application's connections go: through the capture and the sidecar. Standard library only, and
nothing of ours: it runs in any container that has a Python.
"""

import argparse
import http.client
import json
import socket
import sys

SECONDS = 5.0
QUIET_SECONDS = 0.7
AGENT = "mutua-verify-mtls"


def request(host: str, port: int, mark: str) -> dict[str, object]:
    """A HEAD of `/`, with the mark in its query: it asks for nothing, and can be looked for on the wire."""
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("HEAD", f"/?{AGENT}={mark}", headers={"User-Agent": AGENT, "Connection": "close"})
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        return {"passed": False, "answer": f"{type(error).__name__}: {error}"}
    finally:
        connection.close()
    # The client's own sidecar answers 503 where it cannot reach the server; a server's answer says how long it took.
    is_own = answer.status in (502, 503, 504) and answer.getheader("x-envoy-upstream-service-time") is None
    return {"passed": not is_own, "answer": f"HTTP {answer.status}"}


def connection(host: str, port: int) -> dict[str, object]:
    """A connection on which nothing is sent. Who refuses closes at once."""
    try:
        with socket.create_connection((host, port), SECONDS) as stream:
            stream.settimeout(QUIET_SECONDS)
            received = stream.recv(1)
    except TimeoutError:
        return {"passed": True, "answer": "connected"}
    except OSError as error:
        return {"passed": False, "answer": f"{type(error).__name__}: {error}"}
    return {"passed": bool(received), "answer": "connected" if received else "closed at once"}


def main() -> None:
    """Prints one JSON object: whether the connection came about, and what was answered."""
    arguments = argparse.ArgumentParser(prog="mutua.system.touch")
    for name in ("host", "port", "mark", "way"):
        arguments.add_argument(name)
    said = arguments.parse_args()
    made = (
        request(said.host, int(said.port), said.mark) if said.way == "http" else connection(said.host, int(said.port))
    )
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main()
