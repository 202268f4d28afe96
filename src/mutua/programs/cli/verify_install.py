"""`mutua verify-install`: is everything that was installed still there, and does it work?"""

from typing import Annotated

import typer

from mutua.installation import manifests
from mutua.programs.cli import common, installer
from mutua.programs.cli.main import Options
from mutua.system.kube import KubeClient


def verify_install(
    context: typer.Context,
    revision: Annotated[str, typer.Option("--revision", "-r", help="Which revision.")] = "default",
) -> None:
    """Check what is installed: a line per component, exit code 1 if something is missing."""
    if common.with_kube(context, lambda kube, options: _verify(kube, options, revision)):
        print("✔ Istio is installed and verified successfully")
        return
    common.say("Error: the installation is incomplete")
    common.say("hint: `mutua install` brings it back")
    raise typer.Exit(1)


async def _verify(kube: KubeClient, options: Options, revision: str) -> bool:
    """Prints a line per component; whether all is well. Raises NotFoundError if nothing was installed."""
    whole = True
    for component in manifests.components(await installer.installed(kube, options.istio_namespace, revision)):
        problems = await installer.missing(kube, component)
        if not problems:
            print(f"✔ {component.name}: {len(component.objects)} objects checked successfully")
            continue
        whole = False
        print(f"✘ {component.name}: {len(problems)} of {len(component.objects)} objects have a problem")
        for problem in problems:
            print(f"    {problem}")
    return whole
