"""Cases of AuthorizationPolicy put to one real Envoy in a network of its own."""

import json
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import envoy_authorization as authorization
from envoy_pods import envoy_binary, run_network

from fakes.issuing_authority import Authority

CLIENT = Path(__file__).with_name("envoy_authorization_client.py")


ROUNDS = 3
"""On a busy machine some calls find no time; they are put again, to an Envoy of their own."""


def decisions(vectors: Sequence[Mapping[str, Any]], directory: Path) -> list[str]:
    """Envoy's decisions in order of the vectors: `allow`, `deny`, another status, or what else happened.

    Needs root. `directory` is for files that nobody needs afterwards.
    """
    found: dict[int, str] = {}
    for _ in range(ROUNDS):
        left = [index for index in range(len(vectors)) if not is_decision(found.get(index, ""))]
        if left:
            found |= dict(zip(left, _decided([vectors[index] for index in left], directory), strict=True))
    return [found[index] for index in range(len(vectors))]


def is_decision(text: str) -> bool:
    """Whether Envoy said something; else it is an exception's text, or nothing."""
    return text.isalnum()


def _decided(vectors: Sequence[Mapping[str, Any]], directory: Path) -> list[str]:
    bootstrap, cases = authorization.bootstrap(vectors, Authority(), directory)
    requests = [case.vector["request"] for case in cases]
    addresses = {request[end] for request in requests for end in ("source_ip", "destination_ip")}
    configuration = directory / "bootstrap.pb"
    configuration.write_bytes(bootstrap.SerializeToString())
    network = f"mutua-{uuid.uuid4().hex[:6]}"
    try:
        run_network("alone", network, *sorted(addresses))
        return _asked(network, configuration, cases)
    finally:
        run_network("remove", network)


def _asked(network: str, configuration: Path, cases: list[authorization.Case]) -> list[str]:
    inside = ("nsenter", f"--net=/var/run/netns/{network}", "--")
    envoy = (envoy_binary(), "-c", str(configuration), "--use-dynamic-base-id", "--concurrency", "1")
    with subprocess.Popen([*inside, *envoy, "--log-level", "error"]) as process:
        try:
            asked = subprocess.run(
                [*inside, sys.executable, str(CLIENT)],
                input=json.dumps([_question(case) for case in cases]),
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        finally:
            process.kill()
    found: list[str] = json.loads(asked.stdout)
    return found


def _question(case: authorization.Case) -> dict[str, Any]:
    return {
        "request": case.vector["request"],
        "client_port": case.client_port,
        "certificate": case.certificate,
        "token": authorization.token(case.vector),
    }
