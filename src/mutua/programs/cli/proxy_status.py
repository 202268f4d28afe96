"""`mutua proxy-status`: what each proxy has of what the control plane sends, and why it refused the rest."""

import sys
from typing import Annotated

import typer

from mutua.errors import InvalidInputError, NotFoundError
from mutua.programs.cli import common, completion, control_plane, envoy_difference
from mutua.programs.cli.main import Options
from mutua.reports import proxy_status as report
from mutua.reports.proxy_status import ProxyState
from mutua.system.kube import KubeClient

_OUTPUTS = ("table", "json", "yaml")


def proxy_status(
    context: typer.Context,
    pod: completion.Pod = "",
    output: Annotated[str, typer.Option("--output", "-o", help="table, json or yaml.")] = "table",
    verbosity: Annotated[int, typer.Option("--verbosity", "-v", min=0, max=1, help="1: the state per type.")] = 0,
) -> None:
    """Which proxies are connected, what they have and refused, and why; of one pod, what it holds otherwise."""
    if output not in _OUTPUTS:
        raise InvalidInputError(f'output format "{output}" not supported', f"choose one of {', '.join(_OUTPUTS)}")

    async def ask(kube: KubeClient, chosen: Options) -> tuple[list[ProxyState], str]:
        known = await control_plane.proxies(kube, chosen)
        if not pod:
            states = [state for state in known if chosen.namespace in ("", state.namespace)]
            return await envoy_difference.with_whole_words(kube, states), ""
        found = await common.find_pod(kube, pod, chosen)
        states = [state for state in known if (state.namespace, state.pod) == found]
        if not states:
            raise NotFoundError(
                f"pod {found.namespace}/{found.name} is not connected to the control plane",
                f"`mutua diagnose {found.name} -n {found.namespace}` looks for the reason",
            )
        compared = await envoy_difference.compared(kube, chosen, found) if output == "table" else ""
        return await envoy_difference.with_whole_words(kube, states), compared

    states, compared = common.with_kube(context, ask)
    if output != "table":
        common.print_object(states, output)
        return
    sys.stdout.write(report.verbose_table(states) if verbosity or pod else report.table(states))
    if not states:
        where = common.options(context).namespace
        common.say("no proxy is connected" + (f" from namespace {where}" if where else ""))
    if compared:
        sys.stdout.write(f"\n{compared}")
    for trouble in report.troubles(states):
        common.say(trouble)
