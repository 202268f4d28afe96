"""`mutua experimental` (`x`): looking at one workload from the outside."""

import sys
from typing import Annotated

import typer

from mutua.programs.cli import check_inject, completion, describe, envoy_source, precheck, proxy_status
from mutua.reports import authorization, envoy_dump
from mutua.system.kube_pod_http import ENVOY_ADMIN_PORT

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Commands that istioctl keeps under `x`."
)
authz = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Authorization policies.")


@authz.command("check")
def authz_check(
    context: typer.Context,
    pod: Annotated[
        str, typer.Argument(metavar="[TYPE/]NAME[.NAMESPACE]", show_default=False, autocompletion=completion.pods)
    ] = "",
    file: Annotated[str, typer.Option("--file", "-f", help="Read a saved config dump instead of a pod.")] = "",
    port: Annotated[int, typer.Option("--proxy-admin-port", help="Port of Envoy's admin interface.")] = (
        ENVOY_ADMIN_PORT
    ),
) -> None:
    """The authorization policies in force in a pod's live Envoy."""

    dump = envoy_source.read(context, "x authz check", pod, file, envoy_source.DUMP, port)
    sys.stdout.write(
        authorization.table(authorization.policies([*envoy_dump.listeners(dump), *envoy_dump.routes(dump)]))
    )


app.add_typer(authz, name="authz")
app.command("proxy-status")(proxy_status.proxy_status)
app.command("ps", hidden=True)(proxy_status.proxy_status)
app.add_typer(describe.app, name="describe")
app.add_typer(describe.app, name="des", hidden=True)
app.command("check-inject")(check_inject.check_inject)
app.command("precheck")(precheck.precheck)
