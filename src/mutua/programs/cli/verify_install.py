"""`mutua verify-install`: is everything that was installed still there, and does it work?"""

from typing import Annotated

import msgspec
import typer

from mutua.errors import NotFoundError
from mutua.installation import manifests, values
from mutua.installation.control_plane import STATE_CONFIG_MAP
from mutua.installation.values import Installation
from mutua.programs.cli import common, installer
from mutua.programs.cli.main import Options
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import CONFIG_MAPS


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
    for component in manifests.components(await _installed(kube, options.istio_namespace, revision)):
        problems = await installer.missing(kube, component)
        if not problems:
            print(f"✔ {component.name}: {len(component.objects)} objects checked successfully")
            continue
        whole = False
        print(f"✘ {component.name}: {len(problems)} of {len(component.objects)} objects have a problem")
        for problem in problems:
            print(f"    {problem}")
    return whole


async def _installed(kube: KubeClient, namespace: str, revision: str) -> Installation:
    suffix = "" if revision == "default" else f"-{revision}"
    state = await kube.find(CONFIG_MAPS, STATE_CONFIG_MAP + suffix, namespace)
    if state is None:
        raise NotFoundError(
            f"no installation of revision {revision} in namespace {namespace}",
            "install it with `mutua install`; -i chooses another namespace, -r another revision",
        )
    return values.installation(msgspec.json.decode(state["data"]["settings"]), state["data"]["version"])
