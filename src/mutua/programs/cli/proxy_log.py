"""`mutua proxy-config log` and `rootca-compare`: what a live Envoy logs, and whether two trust one root."""

import re
import sys
from typing import Annotated
from urllib.parse import urlencode

import typer

from mutua.errors import InvalidInputError, MutuaError
from mutua.programs.cli import common, completion, envoy_source
from mutua.programs.cli.common import PodName
from mutua.programs.cli.main import Options
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError
from mutua.system.kube_pod_http import ENVOY_ADMIN_PORT, PodHttp
from mutua.system.kube_resources import PODS

LEVELS = ("trace", "debug", "info", "warning", "error", "critical", "off")
DEFAULT_LEVEL = "warning"
_NAME = re.compile(r"[\w.-]+")

AdminPort = Annotated[int, typer.Option("--proxy-admin-port", help="Port of Envoy's admin interface.")]


def log(
    context: typer.Context,
    pod: completion.Pod = "",
    level: Annotated[str, typer.Option("--level", help="A level for all, or logger:level,… for some.")] = "",
    reset: Annotated[bool, typer.Option("--reset", "-r", help="Every logger back to warning.")] = False,
    selector: Annotated[str, typer.Option("--selector", "-l", help="The pods with these labels.")] = "",
    port: AdminPort = ENVOY_ADMIN_PORT,
) -> None:
    """The loggers of a live Envoy and their levels; --level changes them at once, until the Envoy ends."""
    if bool(pod) == bool(selector):
        raise InvalidInputError(
            "log requires pod name or --selector" if not pod else "a pod name and --selector exclude each other",
            "for example `mutua proxy-config log deploy/web --level rbac:debug`",
        )
    pages = _changes(DEFAULT_LEVEL if reset and not level else level)

    async def work(kube: KubeClient, chosen: Options) -> list[tuple[PodName, str]]:
        found = await _chosen(kube, pod, selector, chosen)
        shown = []
        for name in found:
            http = PodHttp(kube, name.namespace, name.name, port)
            try:
                for page in pages:
                    await http.post(page)
                shown.append((name, (await http.post("/logging")).decode()))
            except KubeError as error:
                await envoy_source.explain(kube, name, error)
                raise
        return shown

    for name, loggers in common.with_kube(context, work):
        sys.stdout.write(f"{name.name}.{name.namespace}:\n{loggers.rstrip()}\n")


def rootca_compare(
    context: typer.Context,
    first: Annotated[str, typer.Argument(metavar="POD", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="POD", show_default=False)],
    port: AdminPort = ENVOY_ADMIN_PORT,
) -> None:
    """Whether two pods trust a common root. Exit code 1 if they do not."""
    from mutua.reports import held_certificates

    async def work(kube: KubeClient, chosen: Options) -> list[tuple[PodName, frozenset[str]]]:
        found = [await common.find_pod(kube, pod, chosen) for pod in (first, second)]
        return [
            (name, held_certificates.roots(await envoy_source.live(kube, name, envoy_source.DUMP, port)))
            for name in found
        ]

    (one, roots), (other, other_roots) = common.with_kube(context, work)
    both = f"Both [{one.name}.{one.namespace}] and [{other.name}.{other.namespace}] have the"
    about = "theoretically the connectivity between them is"
    if not roots & other_roots:
        raise MutuaError(
            f"{both} non identical ROOTCA, {about} unavailable", "`mutua ca status` shows the roots in use"
        )
    print(f"{both} identical ROOTCA, {about} available")


async def _chosen(kube: KubeClient, pod: str, selector: str, chosen: Options) -> list[PodName]:
    if pod:
        return [await common.find_pod(kube, pod, chosen)]
    namespace = chosen.namespace or kube.namespace
    pods = await kube.list(PODS, namespace, label_selector=selector, field_selector="status.phase=Running")
    if not pods:
        raise InvalidInputError(f"no running pod of namespace {namespace} has the labels {selector}")
    return [PodName(namespace, str(item["metadata"]["name"])) for item in pods if common.proxy_image(item)]


def _changes(level: str) -> list[str]:
    """The admin pages that set these levels. Raises InvalidInputError."""
    if not level:
        return []
    whole: list[str] = []
    some: list[str] = []
    for part in level.split(","):
        name, colon, wanted = part.strip().rpartition(":")
        if wanted not in LEVELS or (colon and not _NAME.fullmatch(name)):
            raise InvalidInputError(f'"{part}" is no level', f"write LEVEL or LOGGER:LEVEL with {', '.join(LEVELS)}")
        (some if colon else whole).append(f"{name}:{wanted}" if colon else wanted)
    if len(whole) > 1:
        raise InvalidInputError("one level for all loggers can be given, not several")
    pages = [f"/logging?{urlencode({'level': whole[0]})}"] if whole else []
    return [*pages, f"/logging?{urlencode({'paths': ','.join(some)})}"] if some else pages
