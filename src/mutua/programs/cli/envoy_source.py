"""Where commands read an Envoy: its admin interface inside a pod, or what somebody saved of it."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import typer

from mutua.errors import InvalidInputError, NotFoundError
from mutua.programs.cli import common
from mutua.programs.cli.common import PodName
from mutua.programs.cli.main import Options
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError
from mutua.system.kube_pod_http import ENVOY_ADMIN_PORT, PodHttp
from mutua.system.kube_resources import PODS

DUMP = "/config_dump"
CLUSTERS = "/clusters?format=json"


def read(context: typer.Context, command: str, pod: str, file: str, page: str, port: int) -> Any:
    """One page that is JSON, of the pod or from the file. Raises MutuaError."""
    if file:
        return saved(file)

    if not pod:
        raise InvalidInputError(
            f"{command.split()[-1]} requires pod name or --file parameter", f"for example `mutua {command} deploy/web`"
        )

    async def ask(kube: KubeClient, chosen: Options) -> Any:
        return await live(kube, await common.find_pod(kube, pod, chosen), page, port)

    return common.with_kube(context, ask)


async def live(kube: KubeClient, pod: PodName, page: str, port: int = ENVOY_ADMIN_PORT) -> Any:
    """One page of a pod's Envoy that is JSON. Raises NotFoundError for a pod without sidecar, KubeError."""
    try:
        return await PodHttp(kube, pod.namespace, pod.name, port).get_json(page)
    except KubeError as error:
        await explain(kube, pod, error)
        raise


async def explain(kube: KubeClient, pod: PodName, error: KubeError) -> None:
    """Raises what is behind an Envoy that does not answer."""
    described = await kube.find(PODS, pod.name, pod.namespace)
    if described is not None and not common.proxy_image(described):
        raise NotFoundError(
            f"pod {pod.namespace}/{pod.name} has no sidecar",
            f"`mutua x check-inject {pod.name} -n {pod.namespace}` says why",
        ) from error
    hint = error.hint or f"has the pod a sidecar, and is it ready? `kubectl get pod -n {pod.namespace}` shows it"
    raise KubeError(error.message, hint=hint, status=error.status, reason=error.reason) from error


def saved(name: str) -> Any:
    """A saved dump ("-": from stdin), with the names that Envoy prints. Raises InvalidInputError."""
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        parsed = msgspec.json.decode(content)
    except OSError as error:
        raise InvalidInputError(f"{name} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InvalidInputError(
            f"{name} is not JSON: {error}", "save it with `mutua proxy-config all -o json`"
        ) from error
    if not isinstance(parsed, dict):
        raise InvalidInputError(f"{name} is not a config dump", "save one with `mutua proxy-config all -o json`")
    if b'"lastUpdated"' in content or b'"hostStatuses"' in content:
        # It was saved by `-o json`; Envoy itself prints other names.
        message_type = "ConfigDump" if "configs" in parsed else "Clusters"
        return canonical(parsed, f"envoy.admin.v3.{message_type}", names_as_envoy_prints=True)
    return parsed


def canonical(document: Mapping[str, Any], message_type: str, *, names_as_envoy_prints: bool = False) -> dict[str, Any]:
    """A message of Envoy's as canonical JSON. Raises UnsupportedError."""
    # Loading Envoy's messages costs more than all else here; tables do without.
    from mutua.programs.cli import envoy_json

    return envoy_json.canonical(document, message_type, names_as_envoy_prints=names_as_envoy_prints)
