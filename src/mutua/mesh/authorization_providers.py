"""External authorizers that the mesh config declares. Source: MeshConfig.extensionProviders."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

import msgspec

from mutua.api.meshconfig import ExtensionProvider, GrpcAuthorizationProvider, HttpAuthorizationProvider
from mutua.api.meta import duration_seconds
from mutua.mesh.proxy_view import AuthorizationProvider

STATUSES: Final = frozenset(map(int, HTTPStatus))
PORTS: Final = range(1, 65536)
BODY_BYTES: Final = range(2**32)
_NUMBER: Final = re.compile("[0-9]{3}")


def of_mesh(providers: Iterable[ExtensionProvider]) -> tuple[AuthorizationProvider, ...]:
    """The authorizers, by name; the first of a name counts. Providers of other kinds (logs, tracing) are not ours.

    One that cannot be asked as declared is left out, and so denies what policies would have asked it.
    """
    found: dict[str, AuthorizationProvider] = {}
    for provider in providers:
        over_http, over_grpc = provider.envoy_ext_authz_http, provider.envoy_ext_authz_grpc
        if over_http is not None and provider.name:
            found.setdefault(provider.name, _over_http(provider.name, over_http))
        elif over_grpc is not None and provider.name:
            found.setdefault(provider.name, _provider(provider.name, over_grpc, http=False))
    return tuple(found[name] for name in sorted(found) if _can_be_asked(found[name]))


def _can_be_asked(provider: AuthorizationProvider) -> bool:
    return (
        bool(provider.host)
        and provider.port in PORTS
        and provider.status_on_error in STATUSES
        and provider.path_prefix[:1] in ("", "/")
        and provider.body_bytes in BODY_BYTES
    )


def _over_http(name: str, settings: HttpAuthorizationProvider) -> AuthorizationProvider:
    return msgspec.structs.replace(
        _provider(name, settings, http=True),
        path_prefix=settings.path_prefix,
        request_headers=settings.include_request_headers_in_check,
        additional_headers=tuple(sorted(settings.include_additional_headers_in_check.items())),
        upstream_headers_on_allow=settings.headers_to_upstream_on_allow,
        client_headers_on_deny=settings.headers_to_downstream_on_deny,
        client_headers_on_allow=settings.headers_to_downstream_on_allow,
    )


def _provider(
    name: str, settings: HttpAuthorizationProvider | GrpcAuthorizationProvider, *, http: bool
) -> AuthorizationProvider:
    made = AuthorizationProvider(
        name=name,
        # `namespace/host` only helps Istio to find the host; the host alone says which it is.
        host=settings.service.rpartition("/")[2],
        port=settings.port,
        http=http,
        fail_open=settings.fail_open,
    )
    if settings.timeout is not None:
        made = msgspec.structs.replace(made, timeout_ms=round(duration_seconds(settings.timeout) * 1000))
    body = settings.include_request_body_in_check
    if body is not None:
        made = msgspec.structs.replace(
            made,
            body_bytes=body.max_request_bytes,
            partial_body=body.allow_partial_message,
            body_as_bytes=body.pack_as_bytes,
        )
    status = settings.status_on_error
    if status:
        made = msgspec.structs.replace(made, status_on_error=int(status) if _NUMBER.fullmatch(status) else 0)
    return made
