"""`mutua x authz`: the authorization policies that a live Envoy enforces."""

import sys
from typing import Annotated

import typer

from mutua.errors import InvalidInputError, NotFoundError
from mutua.programs.cli import common, completion, envoy_source
from mutua.programs.cli.main import Options
from mutua.reports import authorization, envoy_dump
from mutua.system.kube import KubeClient
from mutua.system.kube_pod_http import ENVOY_ADMIN_PORT

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Authorization policies.")


@app.command("check")
def authz_check(
    context: typer.Context,
    pod: completion.Pod = "",
    file: Annotated[str, typer.Option("--file", "-f", help="Read a saved config dump instead of a pod.")] = "",
    port: Annotated[int, typer.Option("--proxy-admin-port", help="Port of Envoy's admin interface.")] = (
        ENVOY_ADMIN_PORT
    ),
    output: Annotated[str, typer.Option("--output", "-o", help="short, or wide: also who of all pods may call.")] = (
        "short"
    ),
) -> None:
    """The authorization policies in force in a pod's live Envoy; with -o wide also what they mean to each client."""
    if output not in ("short", "wide"):
        raise InvalidInputError(f'output format "{output}" not supported', "choose short or wide")
    if output == "wide" and file:
        raise InvalidInputError("-o wide needs a live cluster, not a file", "leave out --file")
    dump = envoy_source.read(context, "x authz check", pod, file, envoy_source.DUMP, port)
    sys.stdout.write(
        authorization.table(authorization.policies([*envoy_dump.listeners(dump), *envoy_dump.routes(dump)]))
    )
    if output == "wide":
        sys.stdout.write("\n" + common.with_kube(context, lambda kube, chosen: _callers(kube, chosen, pod)))


async def _callers(kube: KubeClient, chosen: Options, pod: str) -> str:
    """Who may call the pod: the same policies, judged for a plain GET / of every service account that there is."""
    import datetime

    from mutua.programs.cli import live
    from mutua.reports import callers

    found = await common.find_pod(kube, pod, chosen)
    snapshot = live.snapshot(await live.world(kube, chosen))
    server = snapshot.workload(found.namespace, found.name)
    if server is None:
        raise NotFoundError(f"pod {found.namespace}/{found.name} does not run", "`kubectl get pod` shows its state")
    return callers.table(snapshot, server, datetime.datetime.now(datetime.UTC).timestamp())


@app.callback()
def authz() -> None:
    """Authorization policies."""
