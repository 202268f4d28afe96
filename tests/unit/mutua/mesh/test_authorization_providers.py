"""Who can be asked about CUSTOM policies, from the mesh config as people write it."""

from typing import Any

import pytest

from mutua.api import decode
from mutua.mesh import authorization_providers
from mutua.mesh.proxy_view import AuthorizationProvider

SERVICE = {"service": "tools/authorizer.tools.svc.cluster.local", "port": 9000}


def providers(*entries: dict[str, Any]) -> tuple[AuthorizationProvider, ...]:
    """What a mesh config with these entries declares."""
    config, findings = decode.mesh_config({"extensionProviders": list(entries)})
    assert not findings
    return authorization_providers.of_mesh(config.extension_providers)


def test_providers_over_http_and_grpc_are_read_by_name() -> None:
    over_http = {
        **SERVICE,
        "timeout": "1.5s",
        "failOpen": True,
        "statusOnError": "503",
        "pathPrefix": "/check",
        "includeRequestBodyInCheck": {"maxRequestBytes": 10, "allowPartialMessage": True},
        "includeAdditionalHeadersInCheck": {"x-b": "2", "x-a": "1"},
    }
    grpc, http = providers({"name": "web", "envoyExtAuthzHttp": over_http}, {"name": "a", "envoyExtAuthzGrpc": SERVICE})

    assert grpc == AuthorizationProvider("a", "authorizer.tools.svc.cluster.local", 9000, http=False)
    assert (http.http, http.timeout_ms, http.fail_open, http.status_on_error) == (True, 1500, True, 503)
    assert (http.path_prefix, http.body_bytes, http.partial_body) == ("/check", 10, True)
    assert http.additional_headers == (("x-a", "1"), ("x-b", "2"))


@pytest.mark.parametrize(
    "wrong", [{"port": 0}, {"service": ""}, {"pathPrefix": "check"}, {"statusOnError": "abc"}, {"statusOnError": "999"}]
)
def test_one_that_cannot_be_asked_as_declared_is_none(wrong: dict[str, Any]) -> None:
    assert providers({"name": "web", "envoyExtAuthzHttp": {**SERVICE, **wrong}}) == ()


def test_other_kinds_of_providers_are_not_asked() -> None:
    assert providers({"name": "otel", "opentelemetry": SERVICE}, {"envoyExtAuthzGrpc": SERVICE}) == ()
