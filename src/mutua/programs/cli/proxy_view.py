"""One page of a live Envoy, or of a saved dump, as a table or as Envoy's own objects: what all of them share."""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import typer

from mutua.programs.cli import common, envoy_source
from mutua.programs.cli.common import OutputFormat
from mutua.programs.cli.completion import Pod
from mutua.system.kube_pod_http import ENVOY_ADMIN_PORT

Output = Annotated[str, typer.Option("--output", "-o", help="short, json or yaml.")]
File = Annotated[str, typer.Option("--file", "-f", help="Read a saved config dump instead of a pod.")]
AdminPort = Annotated[int, typer.Option("--proxy-admin-port", help="Port of Envoy's admin interface.")]
Port = Annotated[int, typer.Option("--port", help="Only this port.")]
Address = Annotated[str, typer.Option("--address", help="Only this address.")]
Verbose = Annotated[bool, typer.Option("--verbose/--no-verbose", help="One line per chain or route, not per object.")]


class View(NamedTuple):
    """What of the page is shown: the part, that part as a table, and the message of Envoy's that each piece is."""

    part: Callable[[Mapping[str, Any]], Any]
    table: Callable[[Any], str]
    message: str


def page(
    name: str, path: str = envoy_source.DUMP, output: str = "short"
) -> Callable[[Callable[..., View]], Callable[..., None]]:
    """A command of `proxy-config` from a function whose parameters are its own options."""

    def command_of(view_of: Callable[..., View]) -> Callable[..., None]:
        def command(
            context: typer.Context,
            pod: Pod = "",
            output: Output = output,
            file: File = "",
            admin_port: AdminPort = ENVOY_ADMIN_PORT,
            **own: Any,
        ) -> None:
            show(context, name, view_of(**own), pod, output, file, admin_port, path)

        *shared, _ = inspect.signature(command).parameters.values()
        parameters = [*shared, *inspect.signature(view_of).parameters.values()]
        # typer reads the command line's words off the signature: the shared options, then the page's own.
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {item.name: item.annotation for item in parameters}
        command.__doc__ = view_of.__doc__
        return command

    return command_of


def show(
    context: typer.Context,
    name: str,
    view: View,
    pod: str,
    output: str,
    file: str,
    admin_port: int = ENVOY_ADMIN_PORT,
    path: str = envoy_source.DUMP,
) -> None:
    """Read the page from the pod, or the file, and print it. Raises MutuaError."""
    wanted = common.output_format(output)
    part = view.part(envoy_source.read(context, f"proxy-config {name}", pod, file, path, admin_port))
    if wanted is OutputFormat.SHORT:
        sys.stdout.write(view.table(part))
    elif isinstance(part, list):
        common.print_object([envoy_source.canonical(item, view.message) for item in part], wanted)
    else:
        common.print_object(envoy_source.canonical(part, view.message), wanted)
