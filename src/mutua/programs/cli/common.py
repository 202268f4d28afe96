"""What commands share: the connection, waiting for async work, printing objects, finding the pod that was meant."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

import msgspec
import typer

from mutua.errors import InvalidInputError, NotFoundError
from mutua.programs.cli.main import Options
from mutua.system.kube import KubeClient, Object
from mutua.system.kube_errors import KubeNotFoundError
from mutua.system.kube_resources import DEPLOYMENTS, PODS, SERVICES, Resource

T = TypeVar("T")

PROXY_CONTAINER = "istio-proxy"
_WORKLOADS = {
    "deployment": DEPLOYMENTS,
    "deployments": DEPLOYMENTS,
    "deploy": DEPLOYMENTS,
    "service": SERVICES,
    "services": SERVICES,
    "svc": SERVICES,
    "statefulset": Resource("apps", "v1", "statefulsets"),
    "sts": Resource("apps", "v1", "statefulsets"),
    "daemonset": Resource("apps", "v1", "daemonsets"),
    "ds": Resource("apps", "v1", "daemonsets"),
    "replicaset": Resource("apps", "v1", "replicasets"),
    "rs": Resource("apps", "v1", "replicasets"),
}


class OutputFormat(StrEnum):
    """`-o`."""

    SHORT = "short"
    JSON = "json"
    YAML = "yaml"


class PodName(NamedTuple):
    """Which pod."""

    namespace: str
    name: str


def options(context: typer.Context) -> Options:
    """What the user said before or after the command's name."""
    found = context.find_root().obj
    return found if isinstance(found, Options) else Options()


def with_kube(context: typer.Context, work: Callable[[KubeClient, Options], Awaitable[T]]) -> T:
    """Runs `work` with a connection to the cluster that the user chose. Raises MutuaError."""
    chosen = options(context)

    async def run() -> T:
        async with KubeClient.connect(chosen.kubeconfig, chosen.context) as kube:
            return await work(kube, chosen)

    return asyncio.run(run())


def print_object(value: Any, output: str, indent: int = 4) -> None:
    """JSON or YAML to stdout."""
    if output == OutputFormat.YAML:
        print_documents([msgspec.json.decode(msgspec.json.encode(value))])
    else:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=indent).decode() + "\n")


def print_documents(documents: Iterable[Any]) -> None:
    """YAML documents to stdout, as a person would write them: nothing by reference, texts of several lines as such."""
    import yaml

    class Dumper(yaml.CSafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Dumper, value: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    yaml.dump_all(documents, sys.stdout, Dumper=Dumper, sort_keys=False, allow_unicode=True)


def output_format(text: str, *, wide: bool = False) -> OutputFormat:
    """`wide`: the command has a wider table too, which is SHORT as well. Raises InvalidInputError for anything else."""
    if wide and text == "wide":
        return OutputFormat.SHORT
    try:
        return OutputFormat(text)
    except ValueError:
        formats = ", ".join((*OutputFormat, *(["wide"] if wide else [])))
        raise InvalidInputError(f'output format "{text}" not supported', f"choose one of {formats}") from None


def duration_seconds(option: str, text: str) -> float:
    """An option's duration as Go writes it. Raises InvalidInputError for what is none."""
    import re

    from mutua.api.meta import DURATION_PATTERN
    from mutua.api.meta import duration_seconds as seconds

    if not re.match(DURATION_PATTERN, text):
        raise InvalidInputError(f"{option} {text} is not a duration", "for example 6h, 90m or 30s")
    return seconds(text)


async def find_pod(kube: KubeClient, argument: str, chosen: Options) -> PodName:
    """The pod that `[<type>/]<name>[.<namespace>]` means; of a workload or service, one that runs.

    Raises NotFoundError, InvalidInputError.
    """
    kind, slash, whole = argument.rpartition("/")
    pod = not slash or kind.casefold() in ("pod", "pods", "po")
    resource = PODS if pod else _WORKLOADS.get(kind.casefold())
    if resource is None:
        raise InvalidInputError(
            f'"{argument}" does not refer to a pod', "for example deploy/web, svc/web or a pod's name"
        )
    name, namespace, found = await _find_named(kube, resource, whole, chosen)
    if pod:
        return PodName(namespace, name)
    selector = (found.get("spec") or {}).get("selector") or {}
    labels = selector if resource == SERVICES else selector.get("matchLabels") or {}
    if not labels:
        raise NotFoundError(f"{argument} selects no pods", "name a pod instead")
    pods = await kube.list(
        PODS, namespace, label_selector=",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    )
    ordered = sorted(pods, key=lambda pod: (not _is_running(pod), pod["metadata"]["name"]))
    if not ordered:
        raise NotFoundError(f"{argument} has no pods in namespace {namespace}", "is it scaled to zero?")
    return PodName(namespace, str(ordered[0]["metadata"]["name"]))


async def _find_named(kube: KubeClient, resource: Resource, whole: str, chosen: Options) -> tuple[str, str, Object]:
    """Name, namespace and object. What is behind a dot is a namespace, whatever -n says, unless the name itself has it.

    Source: istioctl. Raises NotFoundError.
    """
    here = chosen.namespace or kube.namespace
    head, _, tail = whole.rpartition(".")
    tried = [(head, tail), (whole, here)] if head and tail else [(whole, here)]
    for name, namespace in tried:
        with contextlib.suppress(KubeNotFoundError):
            return name, namespace, await kube.get(resource, name, namespace)
    name, namespace = tried[0]
    what = "unable to retrieve Pod: pods" if resource == PODS else resource.plural
    raise NotFoundError(
        f'{what} "{name}" not found in namespace {namespace}',
        f"`kubectl get {resource.plural} -n {namespace}` lists them; another namespace is chosen with -n",
    )


def proxy_image(pod: Object) -> str:
    """The image of the pod's sidecar; "" if it has none."""
    spec = pod.get("spec") or {}
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        if container.get("name") == PROXY_CONTAINER:
            return str(container.get("image", ""))
    return ""


def image_tag(image: str) -> str:
    """The tag of an image reference; "unknown" if it has none."""
    name = image.partition("@")[0].rpartition("/")[2]
    return name.partition(":")[2] or "unknown"


def say(line: str) -> None:
    """One line for the person at the terminal, not for a pipe."""
    print(line, file=sys.stderr, flush=True)


def _is_running(pod: Object) -> bool:
    metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
    return status.get("phase") == "Running" and not metadata.get("deletionTimestamp")
