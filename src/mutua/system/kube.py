"""The one door to Kubernetes: an async client that hands out the API's own bytes."""

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

import httpx2
import msgspec
from lightkube.config.kubeconfig import SingleConfig

from mutua.system import kube_config, kube_errors
from mutua.system.kube_resources import (
    PODS,
    SERVICE_ACCOUNTS,
    TOKEN_REVIEWS,
    Collection,
    EventType,
    PatchType,
    Resource,
    WatchEvent,
)
from mutua.system.logs import Log

if TYPE_CHECKING:
    from mutua.system.kube_token_reviews import TokenReviews

FIELD_MANAGER = "mutua"
PAGE_SIZE = 500
REQUEST_TIMEOUT_SECONDS = 15.0
# The server ends a watch in time; a connection that then still says nothing is dead.
WATCH_SECONDS = 290
WATCH_GRACE_SECONDS = 20
KEPT_CONNECTIONS = 8

RETRY_FIRST_SECONDS = 0.1
RETRY_LIMIT_SECONDS = 10.0

Object: TypeAlias = dict[str, Any]

_LOG = Log("kube")


class KubeClient:
    """A connection to one cluster as one user. Use as `async with KubeClient.connect() as kube`.

    Every method raises KubeError (see kube_errors) with the cause and what to do. Objects go out and come in as plain
    dicts; `list_raw` and `watch` give each object's JSON, for a typed decoder.
    """

    def __init__(self, config: SingleConfig) -> None:
        parameters = kube_config.http_parameters(config)
        self.server: str = config.cluster.server
        self.namespace: str = config.namespace
        self._verify: ssl.SSLContext | bool = parameters["verify"]
        self.uses_proxy: bool = parameters["trust_env"]
        self._auth: httpx2.Auth | None = parameters["auth"]
        self._token_reviews: TokenReviews | None = None
        self._http = httpx2.AsyncClient(
            **parameters,
            headers={"User-Agent": FIELD_MANAGER},
            timeout=httpx2.Timeout(REQUEST_TIMEOUT_SECONDS),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS),
        )

    @classmethod
    def connect(cls, kubeconfig: str = "", context: str = "") -> Self:
        """By kubeconfig, or in a pod without one by its service account. Raises KubeConfigError."""
        return cls(kube_config.load(kubeconfig, context))

    @classmethod
    def in_cluster(cls) -> Self:
        """By the pod's service account only. Raises KubeConfigError."""
        return cls(kube_config.in_cluster())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections."""
        if self._token_reviews is not None:
            await self._token_reviews.close()
        await self._http.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        action: str = "",
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        content_type: str = "application/json",
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> bytes:
        """One request to any path; the answer's body. `action` names it in errors, as in "list pods"."""
        headers = {"Accept": "application/json"}
        if content is not None:
            headers["Content-Type"] = content_type
        try:
            response = await self._http.request(
                method, path, params=dict(params or {}), content=content, headers=headers, timeout=timeout_seconds
            )
        except (httpx2.HTTPError, OSError) as error:
            raise kube_errors.unreachable(self.server, error) from error
        if response.is_error:
            raise kube_errors.from_response(response.status_code, response.content, action or f"{method} {path}")
        return response.content

    async def server_version(self) -> str:
        """The API server's version, as in "v1.34.1"."""
        answer = msgspec.json.decode(await self.request("GET", "/version", action="ask the version"))
        return str(answer.get("gitVersion", ""))

    async def find_api_group(self, group: str) -> tuple[Resource, ...]:
        """The collections of an API group in its preferred version; none if the cluster does not know it."""
        try:
            known = msgspec.json.decode(await self.request("GET", f"/apis/{group}", action=f"ask for {group}"))
            version = known["preferredVersion"]["version"]
            listed = msgspec.json.decode(
                await self.request("GET", f"/apis/{group}/{version}", action=f"ask for {group}")
            )
        except kube_errors.KubeNotFoundError:
            return ()
        names = [str(item["name"]) for item in listed["resources"]]
        return tuple(Resource(group, version, name) for name in names if "/" not in name)

    async def get(self, resource: Resource, name: str, namespace: str = "", subresource: str = "") -> Object:
        """One object. Raises KubeNotFoundError."""
        action = f"get {_named(resource, name, namespace)}"
        return _object(await self.request("GET", resource.path(namespace, name, subresource), action=action))

    async def find(self, resource: Resource, name: str, namespace: str = "") -> Object | None:
        """One object, or None if it does not exist."""
        try:
            return await self.get(resource, name, namespace)
        except kube_errors.KubeNotFoundError:
            return None

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> tuple[Object, ...]:
        """All objects of a namespace, or of the cluster if it is ""."""
        found = await self.list_raw(resource, namespace, label_selector=label_selector, field_selector=field_selector)
        return tuple(_object(bytes(raw)) for raw in found.objects)

    async def list_raw(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> Collection:
        """As `list`, each object as its JSON; read page by page."""
        objects: list[msgspec.Raw] = []
        params = _selectors(label_selector, field_selector) | {"limit": str(PAGE_SIZE)}
        while True:
            action = f"list {resource.plural}" + (f" in namespace {namespace}" if namespace else "")
            body = await self.request("GET", resource.path(namespace), action=action, params=params)
            page = msgspec.json.decode(body, type=_Page)
            objects += page.items or ()
            if not page.metadata.continue_:
                return Collection(page.metadata.resource_version, tuple(objects))
            params["continue"] = page.metadata.continue_

    async def pod_log(self, namespace: str, pod: str, container: str, lines: int) -> str:
        """The last lines of what a container printed."""
        body = await self.request(
            "GET",
            PODS.path(namespace, pod, "log"),
            action=f"read the log of {namespace}/{pod}",
            params={"container": container, "tailLines": str(lines)},
        )
        return body.decode(errors="replace")

    async def create(self, resource: Resource, body: Object, namespace: str = "", subresource: str = "") -> Object:
        """The object as stored. Raises KubeConflictError if it exists."""
        name = str(body.get("metadata", {}).get("name", ""))
        path = resource.path(namespace, name if subresource else "", subresource)
        action = f"create {_named(resource, name, namespace)}"
        return _object(await self.request("POST", path, action=action, content=msgspec.json.encode(body)))

    async def replace(self, resource: Resource, body: Object, namespace: str = "", subresource: str = "") -> Object:
        """Writes the whole object. With metadata.resourceVersion: raises KubeConflictError if it changed meanwhile."""
        name = str(body["metadata"]["name"])
        action = f"replace {_named(resource, name, namespace)}"
        path = resource.path(namespace, name, subresource)
        return _object(await self.request("PUT", path, action=action, content=msgspec.json.encode(body)))

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: object,
        namespace: str = "",
        *,
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
        params: Mapping[str, str] | None = None,
    ) -> Object:
        """Changes a part of the object; the object as stored then."""
        answer = await self.request(
            "PATCH",
            resource.path(namespace, name, subresource),
            action=f"patch {_named(resource, name, namespace)}",
            params=params,
            content=msgspec.json.encode(body),
            content_type=patch_type.value,
        )
        return _object(answer)

    async def apply(self, resource: Resource, body: Object, namespace: str = "", subresource: str = "") -> Object:
        """Server-side apply as field manager `mutua`, taking over fields that others set."""
        return await self.patch(
            resource,
            str(body["metadata"]["name"]),
            body,
            namespace,
            patch_type=PatchType.APPLY,
            subresource=subresource,
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
        )

    async def delete(self, resource: Resource, name: str, namespace: str = "") -> bool:
        """Whether there was something to delete. Its dependents follow in the background."""
        action = f"delete {_named(resource, name, namespace)}"
        options = msgspec.json.encode({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"})
        try:
            await self.request("DELETE", resource.path(namespace, name), action=action, content=options)
        except kube_errors.KubeNotFoundError:
            return False
        return True

    async def watch(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        """First LISTED, then every change, without end; LISTED again whenever changes may have been missed.

        Survives lost connections, restarts of the server, refusals for a while, and 410. Raises KubeError if the very
        first list fails, and later only KubeNotFoundError: the kind itself is gone.
        """
        selectors = _selectors(label_selector, field_selector)
        delays = _backoff()
        listed_before = False
        while True:
            try:
                listed = await self.list_raw(
                    resource, namespace, label_selector=label_selector, field_selector=field_selector
                )
            except kube_errors.KubeError as error:
                if not listed_before or isinstance(error, kube_errors.KubeNotFoundError):
                    raise
                _LOG.debug("listing again later", resource=resource.plural, problem=error.message)
                await asyncio.sleep(next(delays))
                continue
            listed_before = True
            yield WatchEvent(EventType.LISTED, listed.objects)
            changes = self._changes(resource, namespace, selectors, listed.resource_version)
            async with contextlib.aclosing(changes):
                async for event in changes:
                    delays = _backoff()
                    yield event
            await asyncio.sleep(next(delays))

    async def _changes(
        self, resource: Resource, namespace: str, selectors: dict[str, str], version: str
    ) -> AsyncGenerator[WatchEvent, None]:
        """Every change after `version`, over as many connections as it takes; ends when it must be listed again."""
        delays = _backoff()
        while True:
            try:
                lines = self._watch_once(resource, namespace, selectors | {"resourceVersion": version})
                async with contextlib.aclosing(lines):
                    async for line in lines:
                        version = line.version or version
                        delays = _backoff()
                        if line.event is not None:
                            yield line.event
            except (kube_errors.KubeGoneError, kube_errors.KubeNotFoundError):
                return
            except kube_errors.KubeError as error:
                _LOG.debug("watching again later", resource=resource.plural, problem=error.message)
            await asyncio.sleep(next(delays))

    async def _watch_once(
        self, resource: Resource, namespace: str, params: dict[str, str]
    ) -> AsyncGenerator["_Line", None]:
        """One watch request until the server ends it. Raises KubeGoneError if it must be listed again."""
        action = f"watch {resource.plural}"
        query = params | {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        timeout = httpx2.Timeout(REQUEST_TIMEOUT_SECONDS, read=WATCH_SECONDS + WATCH_GRACE_SECONDS)
        try:
            async with self._http.stream("GET", resource.path(namespace), params=query, timeout=timeout) as response:
                if response.is_error:
                    raise kube_errors.from_response(response.status_code, await response.aread(), action)
                pending = b""
                async for chunk in response.aiter_bytes():
                    *lines, pending = (pending + chunk).split(b"\n") if b"\n" in chunk else (pending + chunk,)
                    for line in lines:
                        if line.strip():
                            yield _line(line, action)
        except (httpx2.HTTPError, OSError) as error:
            raise kube_errors.unreachable(self.server, error) from error

    async def logs(
        self, pod: str, namespace: str, container: str = "", *, tail_lines: int | None = None, previous: bool = False
    ) -> str:
        """What a container wrote."""
        params = {"container": container} if container else {}
        if tail_lines is not None:
            params["tailLines"] = str(tail_lines)
        if previous:
            params["previous"] = "true"
        action = f"read the logs of {_named(PODS, pod, namespace)}"
        body = await self.request("GET", PODS.path(namespace, pod, "log"), action=action, params=params)
        return body.decode(errors="replace")

    async def token_review(self, token: str, audiences: Sequence[str]) -> Object:
        """The `status` of a TokenReview: `authenticated`, `user`, `audiences`, `error`."""
        if self._token_reviews is None:
            # Its client takes a tenth of a second to import, and nobody but the control plane reviews tokens.
            from mutua.system.kube_token_reviews import TokenReviews

            self._token_reviews = TokenReviews(
                self._http.build_request("POST", TOKEN_REVIEWS.path()).url,
                self._auth,
                self._verify,
                user_agent=FIELD_MANAGER,
                timeout_seconds=REQUEST_TIMEOUT_SECONDS,
                uses_proxy=self.uses_proxy,
            )
        return await self._token_reviews.status(token, audiences)

    async def service_account_token(
        self, name: str, namespace: str, audiences: Sequence[str], lifetime_seconds: int = 3600
    ) -> str:
        """A new bound token of a service account. Source: the TokenRequest subresource."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"name": name},
            "spec": {"audiences": list(audiences), "expirationSeconds": lifetime_seconds},
        }
        answer = await self.create(SERVICE_ACCOUNTS, body, namespace, "token")
        return str(answer["status"]["token"])

    async def websocket_parameters(
        self, path: str, params: Sequence[tuple[str, str]]
    ) -> tuple[str, dict[str, str], ssl.SSLContext | None]:
        """URL, headers and TLS for a WebSocket to the API; kube_streams opens it."""
        request = self._http.build_request("GET", path, params=httpx2.QueryParams(tuple(params)))
        if self._auth is not None:
            flow = self._auth.async_auth_flow(request)
            request = await anext(flow)
            await flow.aclose()
        secure = request.url.scheme == "https"
        url = str(request.url.copy_with(scheme="wss" if secure else "ws"))
        headers = {"Authorization": value} if (value := request.headers.get("Authorization")) else {}
        return url, headers, self._verify if secure and isinstance(self._verify, ssl.SSLContext) else None


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    metadata: _ListMetadata
    items: tuple[msgspec.Raw, ...] | None = ()


class _ObjectMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Versioned(msgspec.Struct):
    metadata: _ObjectMetadata


class _WatchLine(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Line(msgspec.Struct, frozen=True):
    version: str
    event: WatchEvent | None


_watch_line = msgspec.json.Decoder(_WatchLine)
_versioned = msgspec.json.Decoder(_Versioned)


def _line(line: bytes, action: str) -> _Line:
    decoded = _watch_line.decode(line)
    if decoded.type == "ERROR":
        status = msgspec.json.decode(decoded.object)
        raise kube_errors.from_response(int(status.get("code") or 500), bytes(decoded.object), action)
    version = _versioned.decode(decoded.object).metadata.resource_version
    if decoded.type == "BOOKMARK":
        return _Line(version, None)
    # A copy: the Raw would keep the whole line alive.
    return _Line(version, WatchEvent(EventType(decoded.type), (decoded.object.copy(),)))


def _object(body: bytes) -> Object:
    return cast(Object, msgspec.json.decode(body))


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    both = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in both.items() if value}


def _named(resource: Resource, name: str, namespace: str) -> str:
    return f"{resource.plural}/{name}" + (f" in namespace {namespace}" if namespace else "")


def _backoff() -> Iterator[float]:
    """Waiting times that double up to a limit; jittered, so that replicas do not come back in step."""
    delay = RETRY_FIRST_SECONDS
    while True:
        yield random.uniform(delay / 2, delay)  # noqa: S311 - spreads load, guards nothing
        delay = min(delay * 2, RETRY_LIMIT_SECONDS)
