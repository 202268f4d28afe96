"""The node's client of the Kubernetes API: plain JSON objects over lightkube's authenticated HTTP client."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import Cluster, Context, User

from localcluster.paths import ClusterPaths

Object = dict[str, Any]

API_ADDRESS = "https://10.96.0.1:443"
MERGE_PATCH = "application/merge-patch+json"
_TIMEOUT_SECONDS = 10.0


class ApiStatusError(Exception):
    """The API refused a request: `code` is the HTTP status, `reason` Kubernetes' word for it ("NotFound")."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class ApiUnavailableError(Exception):
    """The API server could not be reached, or went away while it answered; trying again may help."""


def resource_path(resource: str, namespace: str | None = None, name: str | None = None) -> str:
    """The URL path of a resource given as `pods`, or `group/version/plural` (`discovery.k8s.io/v1/endpointslices`)."""
    group_version, _, plural = resource.rpartition("/")
    parts = ["apis", group_version] if group_version else ["api", "v1"]
    if namespace is not None:
        parts += ["namespaces", namespace]
    parts.append(plural)
    if name is not None:
        parts.append(name)
    return "/" + "/".join(parts)


class ApiClient:
    """Requests to one API server. All methods raise ApiStatusError and ApiUnavailableError."""

    def __init__(self, server: str, ca_certificate: str, token_file: str) -> None:
        config = SingleConfig(
            context_name="node",
            context=Context(cluster="local", user="node"),
            cluster=Cluster(server=server, certificate_auth=ca_certificate),
            user=User(token_file=token_file),
        )
        # The environment's proxies are for the host's network, which is not this one.
        parameters = ConnectionParams(timeout=httpx2.Timeout(_TIMEOUT_SECONDS), trust_env=False)
        self._http = AsyncClient(config, parameters)

    @classmethod
    def for_cluster(cls, paths: ClusterPaths, server: str = API_ADDRESS) -> "ApiClient":
        """The client of the node process, with the files of its cluster."""
        return cls(server, str(paths.ca_certificate), str(paths.node_token))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, resource: str, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None if it does not exist."""
        try:
            return await self.request("GET", resource_path(resource, namespace, name))
        except ApiStatusError as error:
            if error.code == httpx2.codes.NOT_FOUND:
                return None
            raise

    async def create(self, resource: str, body: Mapping[str, Any], namespace: str | None = None) -> Object:
        """Create an object and return what the server stored."""
        return await self.request("POST", resource_path(resource, namespace), body)

    async def merge(
        self, resource: str, name: str, patch: Mapping[str, Any], namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        """Apply a JSON merge patch (RFC 7386) and return the object as it is now."""
        path = resource_path(resource, namespace, name) + (f"/{subresource}" if subresource else "")
        return await self.request("PATCH", path, patch, content_type=MERGE_PATCH)

    async def delete_now(self, resource: str, name: str, namespace: str, uid: str) -> None:
        """Remove an object at once (grace period 0) if it still is the one with this uid; its absence is no error."""
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": uid},
        }
        try:
            await self.request("DELETE", resource_path(resource, namespace, name), body)
        except ApiStatusError as error:
            if error.code not in (httpx2.codes.NOT_FOUND, httpx2.codes.CONFLICT):
                raise

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        parameters: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """One request with a JSON body; returns the decoded answer."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": content_type}
        try:
            response = await self._http.request(
                method, path, params=dict(parameters or {}), content=content, headers=headers
            )
        except httpx2.HTTPError as error:
            raise ApiUnavailableError(f"{method} {path}: {error or type(error).__name__}") from error
        _raise_for_status(response.status_code, response.content)
        return _decode(response.content)

    @asynccontextmanager
    async def watch(self, path: str, parameters: Mapping[str, str]) -> AsyncIterator[AsyncIterator[Object]]:
        """The events of a watch, from `parameters` (resourceVersion and selectors) on, until the server ends it."""
        query = {**parameters, "watch": "true", "allowWatchBookmarks": "true"}
        timeout = httpx2.Timeout(_TIMEOUT_SECONDS, read=None)
        try:
            async with self._http.stream("GET", path, params=query, timeout=timeout) as response:
                if response.is_error:
                    _raise_for_status(response.status_code, await response.aread())
                yield _events(response)
        except httpx2.HTTPError as error:
            raise ApiUnavailableError(f"watch of {path}: {error or type(error).__name__}") from error


async def _events(response: httpx2.Response) -> AsyncIterator[Object]:
    # Lines end in \n only. The library's own line splitter also splits at U+2028 and others, legal inside JSON strings.
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield _decode(line)


def _decode(content: bytes) -> Object:
    try:
        decoded = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise ApiUnavailableError(f"the API's answer is not JSON: {error}") from error
    return decoded if isinstance(decoded, dict) else {}


def _raise_for_status(code: int, content: bytes) -> None:
    if code < httpx2.codes.BAD_REQUEST:
        return
    try:
        status = msgspec.json.decode(content)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    except (msgspec.DecodeError, AttributeError):
        reason, message = "", content[:200].decode(errors="replace")
    raise ApiStatusError(code, reason, message or f"HTTP status {code}")
