"""Asking the control plane: every replica, through a port-forward, over its own TLS, with a token made for it."""

import asyncio
import ssl
from typing import TypeVar

import msgspec

from mutua.errors import NotFoundError
from mutua.installation.access import DEBUG_ACCOUNT, DEBUG_AUDIENCE, ROOT_CONFIG_MAP
from mutua.programs.cli.main import Options
from mutua.programs.control_plane.settings import WEBHOOK_PORT
from mutua.reports.proxy_status import PlaintextSeen, ProxyState
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError
from mutua.system.kube_pod_http import PodHttp
from mutua.system.kube_resources import CONFIG_MAPS, PODS

T = TypeVar("T")
_TOKEN_SECONDS = 600


async def proxies(kube: KubeClient, chosen: Options) -> list[ProxyState]:
    """Every connected proxy, whichever replica it is connected to. Raises NotFoundError, KubeError."""
    return await _ask(kube, chosen, "/debug/syncz", ProxyState)


async def plaintext(kube: KubeClient, chosen: Options) -> list[PlaintextSeen]:
    """Who was seen to speak without mutual TLS. Raises NotFoundError, KubeError."""
    return await _ask(kube, chosen, "/debug/plaintext", PlaintextSeen)


async def _ask(kube: KubeClient, chosen: Options, page: str, kind: type[T]) -> list[T]:
    namespace = chosen.istio_namespace
    selectors = {"label_selector": "app=istiod", "field_selector": "status.phase=Running"}
    running = await kube.list(PODS, namespace, **selectors)
    replicas = [pod for pod in running if not pod["metadata"].get("deletionTimestamp")]
    if not replicas:
        raise NotFoundError(
            f"no control plane runs in namespace {namespace}", "`mutua verify-install` says what is missing"
        )
    token = await kube.service_account_token(DEBUG_ACCOUNT, namespace, (DEBUG_AUDIENCE,), _TOKEN_SECONDS)
    root = await kube.get(CONFIG_MAPS, ROOT_CONFIG_MAP, namespace)
    tls = ssl.create_default_context(cadata=root["data"]["root-cert.pem"])
    headers = [("Authorization", f"Bearer {token}"), ("Host", f"istiod.{namespace}.svc")]

    async def one(pod: str) -> list[T]:
        http = PodHttp(kube, namespace, pod, WEBHOOK_PORT, tls=tls, server_name=f"istiod.{namespace}.svc")
        body = await http.get(page, headers)
        try:
            return msgspec.json.decode(body, type=list[kind])  # type: ignore[valid-type]
        except msgspec.DecodeError as error:
            raise KubeError(
                f"the control plane {pod} answers {page} with something else than this program expects: {error}",
                hint="has it another version? `mutua version` shows both",
            ) from error

    answers = await asyncio.gather(*(one(str(pod["metadata"]["name"])) for pod in replicas))
    return [item for answer in answers for item in answer]
