"""AuthorizationPolicy: real Envoys decide as the conformance vectors say, with what the translator makes of them."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import envoy_authorization as authorization
import pytest
from envoy_pods import Authority, can_make_networks, envoy_binary, run_network

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors"
CLIENT = Path(__file__).with_name("envoy_authorization_client.py")
ONE_IN = 4
"""A quarter of the vectors takes six seconds; each of their families is in it many times."""

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.linux,
    pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root"),
    pytest.mark.skipif(not VECTORS.exists(), reason="conformance vectors not present"),
]


@pytest.fixture
def network() -> Iterator[str]:
    name = f"mutua-{uuid.uuid4().hex[:6]}"
    yield name
    run_network("remove", name)


@pytest.mark.parametrize("file", ["authz-golden", "authz-fields"])
def test_envoy_decides_as_the_vectors_say(file: str, network: str, tmp_path: Path) -> None:
    bootstrap, cases = authorization.bootstrap(_vectors(file), Authority(), tmp_path)
    requests = [case.vector["request"] for case in cases]
    addresses = {request[end] for request in requests for end in ("source_ip", "destination_ip")}
    run_network("alone", network, *sorted(addresses))
    configuration = tmp_path / "bootstrap.pb"
    configuration.write_bytes(bootstrap.SerializeToString())
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

    decisions = {case.vector["id"]: each for case, each in zip(cases, json.loads(asked.stdout), strict=True)}
    expected = {case.vector["id"]: case.vector["expect"] for case in cases}
    assert {name: each for name, each in decisions.items() if each != expected[name]} == {}
    assert len(decisions) > 100


def _vectors(file: str) -> list[Mapping[str, Any]]:
    rows = map(json.loads, (VECTORS / f"{file}.jsonl").read_text().splitlines())
    return [row for row in rows if authorization.can_run(row)][::ONE_IN]


def _question(case: authorization.Case) -> dict[str, Any]:
    return {
        "request": case.vector["request"],
        "client_port": case.client_port,
        "certificate": case.certificate,
        "token": authorization.token(case.vector),
    }
