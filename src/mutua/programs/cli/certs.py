"""`mutua certs`: the certificate of every workload, as its agent told it."""

import sys
from datetime import timedelta
from typing import Annotated, Any

import typer

from mutua.programs.cli import common, identity_pages
from mutua.programs.cli.main import Options
from mutua.system.kube import KubeClient

EXPIRING_EXIT_CODE = 2


def certs(
    context: typer.Context,
    output: Annotated[str, typer.Option("--output", "-o", help="short, wide, json or yaml.")] = "short",
    expiring_in: Annotated[
        str, typer.Option("--expiring-in", help="Only certificates that end within this time, as in 6h; exit code 2.")
    ] = "",
) -> None:
    """Show each workload's identity, certificate, next rotation and last error; -n chooses one namespace."""
    from mutua.reports import certificates as report
    from mutua.system import clock

    wide = output == "wide"
    wanted = common.output_format(output, wide=True)
    within = timedelta(seconds=common.duration_seconds("--expiring-in", expiring_in)) if expiring_in else None
    namespace = common.options(context).namespace

    async def work(kube: KubeClient, options: Options) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
        return await identity_pages.certificates(kube, options)

    reports, silent = common.with_kube(context, work)
    reports = [each for each in reports if namespace in ("", each["namespace"])]
    silent = [each for each in silent if namespace in ("", each[0])]
    now = clock.now()
    if within is not None:
        # Whoever has told nothing may be about to expire, so it is shown; it alone is no reason for the exit code.
        reports = [dict(each) for each in report.expiring(reports, now, within)]
    if wanted is common.OutputFormat.SHORT and within is not None and not (reports or silent):
        sys.stdout.write(f"No certificate ends within {expiring_in}.\n")
    elif wanted is common.OutputFormat.SHORT:
        sys.stdout.write((report.wide if wide else report.table)(reports, silent, now))
    else:
        silent_objects = [{"namespace": each[0], "pod": each[1]} for each in silent]
        common.print_object({"certificates": reports, "silent": silent_objects}, wanted)
    if within is not None and reports:
        common.say(f"Error: {len(reports)} certificates end within {expiring_in}")
        raise typer.Exit(EXPIRING_EXIT_CODE)
