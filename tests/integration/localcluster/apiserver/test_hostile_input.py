"""Requests that nobody means well with: a clear refusal to the one who sent them, and the server goes on."""

import json
from http.client import HTTPSConnection

import pytest
from api_server import ApiServer

PATH = "/api/v1/namespaces/default/configmaps"
LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20))]
).encode()


@pytest.mark.parametrize(
    ("body", "media_type", "code"),
    [
        (b"[" * 200_000, "application/json", 400),
        (b'{"metadata":' * 50_000, "application/json", 400),
        (b'{"metadata":{"name":"\xff\xfe"}}', "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"x"', "application/json", 400),
        (b"null", "application/json", 400),
        (b"k8s\x00\xff\xff\xff", "application/vnd.kubernetes.protobuf", 400),
        (LAUGHS, "application/yaml", 400),
        (b"a: &a [*a]", "application/yaml", 400),
        (b"[" * 20_000, "application/yaml", 400),
        (b"x" * (3 * 1024 * 1024 + 1), "application/json", 413),
        (b"<a/>", "application/xml", 415),
    ],
    ids=range(13),
)
def test_bodies_that_cannot_be_read(server: ApiServer, body: bytes, media_type: str, code: int) -> None:
    found, status = server.request("POST", PATH, raw=body, Content_Type=media_type)

    assert (found, status["kind"]) == (code, "Status")
    assert server.request("GET", "/readyz")[0] == 200


def test_ten_thousand_labels_are_just_many(server: ApiServer) -> None:
    labels = {f"label-{number}": "x" for number in range(10_000)}

    code, created = server.request("POST", PATH, {"metadata": {"name": "many", "labels": labels}})

    assert code == 201
    assert len(created["metadata"]["labels"]) == 10_000


@pytest.mark.parametrize("name", ["../secrets/x", "a/b", "a%00b", "%2e%2e", "A", "x" * 300, "ü"])
def test_names_that_are_none(server: ApiServer, name: str) -> None:
    code, status = server.request("POST", PATH, {"metadata": {"name": name}})

    assert (code, status["reason"]) == (422, "Invalid"), json.dumps(status)


def test_warnings_about_fields_with_any_name_are_readable_headers(server: ApiServer) -> None:
    fields = {"a\r\nX-Evil: yes\x00": 1, "ü\u2603": 1, **{f"field-{number}": 1 for number in range(10_000)}}

    connection = HTTPSConnection("127.0.0.1", server.port, context=server.context(), timeout=20)
    headers = {"Authorization": f"Bearer {server.paths.admin_token.read_text()}"}
    connection.request("POST", PATH, json.dumps({"metadata": {"name": "warned"}, **fields}), headers)
    with connection.getresponse() as answer:
        assert answer.status == 201
        assert answer.headers.get("x-evil") is None
        warnings = answer.headers.get_all("warning") or []
    connection.close()

    assert any("a  X-Evil: yes " in warning for warning in warnings)
    assert sum(map(len, warnings)) < 8192
