"""`mutua plaintext`: who still speaks without mutual TLS, to whom, and why."""

import sys
from datetime import timedelta
from typing import Annotated

import typer

from mutua.programs.cli import common, control_plane
from mutua.programs.cli.main import Options
from mutua.reports.proxy_status import PlaintextSeen
from mutua.system.kube import KubeClient


def plaintext(
    context: typer.Context,
    since: Annotated[str, typer.Option("--since", help="Only what was seen within this time, as in 10m.")] = "",
    output: Annotated[str, typer.Option("--output", "-o", help="short, wide, json or yaml.")] = "short",
) -> None:
    """Show each client that speaks plaintext, and why; -n chooses what comes from or goes to one namespace.

    Counts are of connections since the control plane started. Exit code 0, whoever was seen.
    """
    from mutua.reports import plaintext as report
    from mutua.system import clock

    wide = output == "wide"
    wanted = common.output_format(output, wide=True)
    within = timedelta(seconds=common.duration_seconds("--since", since)) if since else None

    async def work(kube: KubeClient, chosen: Options) -> list[PlaintextSeen]:
        return await control_plane.plaintext(kube, chosen)

    entries = report.to(report.merged(common.with_kube(context, work)), common.options(context).namespace)
    now = clock.now()
    if within is not None:
        entries = report.since(entries, now, within)
    if wanted is common.OutputFormat.SHORT:
        sys.stdout.write(report.table(entries, now, wide=wide))
    else:
        common.print_object({"plaintext": report.objects(entries)}, wanted)
