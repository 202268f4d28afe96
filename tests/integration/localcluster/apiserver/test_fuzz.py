"""Requests made from the API's own OpenAPI documents, right and wrong ones: whatever is sent, nothing is our failure.

`bench/api_fuzz.py` runs it for longer, with other requests each time.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from api_server import ApiServer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

EXAMPLES = int(os.environ.get("API_FUZZ_EXAMPLES", "150"))
# How much of a request is made to fit what is there, so that it gets past the first checks.
AS_IT_IS, PLACE, IDENTITY, QUERY = range(4)
Operation = Any


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of its own: what is created here has strange forms."""
    server = ApiServer.create(tmp_path_factory.mktemp("fuzzed"))
    server.start()
    yield server
    server.close()


def operations(server: ApiServer) -> list[Operation]:
    """Every operation of every document."""
    found: list[Operation] = []
    for path in server.request("GET", "/openapi/v3")[1]["paths"]:
        document = schemathesis.openapi.from_dict(server.request("GET", f"/openapi/v3/{path}")[1])
        found += [result.ok() for result in document.get_all_operations()]
    return found


def cases(operation: Operation) -> st.SearchStrategy[Case]:
    """Requests that keep to the document, and some that do not."""
    return st.one_of(operation.as_strategy(), operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))


def fit(case: Case, extent: int) -> None:
    """Let a request name places that exist, an object of the right kind, and only readable options."""
    if extent >= PLACE and isinstance(case.path_parameters, dict):
        known = {"namespace": "default", "name": "fuzzed"}
        case.path_parameters.update({key: known[key] for key in case.path_parameters if key in known})
    identity = case.operation.definition.raw.get("x-kubernetes-group-version-kind")
    if extent >= IDENTITY and isinstance(case.body, dict) and identity:
        group, version = identity["group"], identity["version"]
        case.body |= {"kind": identity["kind"], "apiVersion": f"{group}/{version}" if group else version}
        about = case.body.get("metadata")
        kept = about if isinstance(about, dict) else {}
        case.body["metadata"] = {
            **{key: value for key, value in kept.items() if key not in ("namespace", "uid", "resourceVersion")},
            "name": "fuzzed",
        }
    if isinstance(case.query, dict):
        if extent >= QUERY:
            for key in ("continue", "dryRun", "fieldSelector", "fieldValidation", "labelSelector", "resourceVersion"):
                case.query.pop(key, None)
        if case.query.get("watch"):
            case.query["timeoutSeconds"] = 1


def test_no_request_makes_the_server_fail(fresh: ApiServer) -> None:
    session = requests.Session()
    session.trust_env = False
    session.verify = str(fresh.paths.ca_certificate)
    authorization = {"Authorization": f"Bearer {fresh.paths.admin_token.read_text()}"}
    everything = st.sampled_from(operations(fresh)).flatmap(cases)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize="API_FUZZ_EXAMPLES" not in os.environ,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(everything, st.sampled_from((AS_IT_IS, PLACE, IDENTITY, QUERY, QUERY)))
    def send(case: Case, extent: int) -> None:
        fit(case, extent)
        wanted = case.as_transport_kwargs(base_url=f"https://127.0.0.1:{fresh.port}")
        wanted["headers"] = {**wanted.get("headers", {}), **authorization}
        with session.request(**wanted, timeout=30) as answer:
            told = f"{case.method} {wanted['url']} {wanted.get('json', wanted.get('data'))!r:.3000}"
            assert answer.status_code < 500, f"{told}: {answer.text}\n{fresh.log[-3000:]}"

    with session:
        send()
    assert "Traceback" not in fresh.log
