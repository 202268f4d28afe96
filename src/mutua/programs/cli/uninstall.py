"""`mutua uninstall`: the mesh out of a cluster."""

from typing import Annotated

import typer

from mutua.errors import InvalidInputError
from mutua.programs.cli import common, installer
from mutua.programs.cli.main import Options
from mutua.system.kube import KubeClient


def uninstall(
    context: typer.Context,
    purge: Annotated[bool, typer.Option("--purge", help="Everything, with the definitions and all policies.")] = False,
    revision: Annotated[str, typer.Option("--revision", "-r", help="Only this revision's control plane.")] = "",
    yes: Annotated[bool, typer.Option("--skip-confirmation", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove the mesh from a cluster. Pods keep their sidecars until they are restarted."""
    if purge == bool(revision):
        raise InvalidInputError(
            "at least one of the --revision or --purge flags must be set"
            if not purge
            else "--purge takes no --revision",
            "`mutua uninstall --purge` removes everything",
        )
    if not yes:
        what = f"The control plane of revision {revision}" if revision else "All Istio resources"
        typer.confirm(f"{what} will be pruned from the cluster. Proceed?", abort=True, err=True)

    async def work(kube: KubeClient, _options: Options) -> int:
        return await installer.uninstall(kube, revision, common.say)

    if common.with_kube(context, work):
        common.say("✔ Uninstall complete")
    else:
        common.say("No resources will be pruned from the cluster. Please double check the input configs")
