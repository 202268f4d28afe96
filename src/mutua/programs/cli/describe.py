"""`mutua x describe`: what a pod or a Service is to the mesh."""

import sys
from typing import Annotated, Any

import typer

from mutua.errors import InvalidInputError, MutuaError, NotFoundError
from mutua.programs.cli import common, completion, envoy_source, live
from mutua.programs.cli.common import PodName
from mutua.programs.cli.main import Options
from mutua.reports import authorization, envoy_dump
from mutua.reports import describe as report
from mutua.reports.authorization import InForce
from mutua.system.kube import KubeClient
from mutua.system.kube_pod_http import ENVOY_ADMIN_PORT
from mutua.system.kube_resources import PODS

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="What a pod or a Service is to the mesh."
)

Unmeshed = Annotated[bool, typer.Option("--ignoreUnmeshed", help="Say nothing of a missing sidecar.")]
AdminPort = Annotated[int, typer.Option("--proxy-admin-port", help="Port of Envoy's admin interface.")]


@app.command("pod")
def pod(
    context: typer.Context,
    name: completion.Pod = "",
    ignore_unmeshed: Unmeshed = False,
    port: AdminPort = ENVOY_ADMIN_PORT,
) -> None:
    """A pod: its ports, Services, rules, policies, and the mode with those who decided it."""
    if not name:
        raise InvalidInputError("expecting pod name", "for example `mutua x describe pod deploy/web`")

    async def work(kube: KubeClient, chosen: Options) -> str:
        found = await common.find_pod(kube, name, chosen)
        described = await kube.get(PODS, found.name, found.namespace)
        read = await live.world(kube, chosen)
        policies = await _policies(kube, found, described, port)
        own = found.namespace == (chosen.namespace or kube.namespace)
        shown = found.name if own else f"{found.name}.{found.namespace}"
        return report.pod(described, live.snapshot(read), policies, shown, unmeshed=ignore_unmeshed)

    sys.stdout.write(common.with_kube(context, work))


@app.command("service")
def service(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME[.NAMESPACE]", show_default=False)] = "",
    ignore_unmeshed: Annotated[bool, typer.Option("--ignoreUnmeshed", hidden=True)] = False,
) -> None:
    """A Service, or a host of a ServiceEntry: its ports, its clients' rules, and the mode of what is behind it."""
    if not name:
        raise InvalidInputError("expecting service name", "for example `mutua x describe service web`")

    async def work(kube: KubeClient, chosen: Options) -> str:
        first, _, rest = name.partition(".")
        namespace = rest or chosen.namespace or kube.namespace
        snapshot = live.snapshot(await live.world(kube, chosen))
        found = snapshot.service(namespace, first)
        if found is None:
            entry = report.entry(name, chosen.namespace or kube.namespace, snapshot)
            if entry:
                return entry
            raise NotFoundError(
                f'services "{first}" not found in namespace {namespace}',
                f"`kubectl get services -n {namespace}` lists them",
            )
        return report.service(found, snapshot)

    sys.stdout.write(common.with_kube(context, work))


app.command("svc", hidden=True)(service)
app.command("po", hidden=True)(pod)


async def _policies(kube: KubeClient, pod_name: PodName, described: dict[str, Any], port: int) -> list[InForce]:
    """What the live Envoy enforces; nothing for a pod without one, or whose Envoy does not answer."""
    if not common.proxy_image(described):
        return []
    try:
        dump = await envoy_source.live(kube, pod_name, envoy_source.DUMP, port)
    except MutuaError as error:
        common.say(f"the policies of the live Envoy are not known: {error.message}")
        return []
    return authorization.policies([*envoy_dump.listeners(dump), *envoy_dump.routes(dump)])
