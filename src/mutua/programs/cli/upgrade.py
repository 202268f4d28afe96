"""`mutua upgrade`: an installation to this program's version, with the settings that it has."""

from typing import Annotated

import typer

from mutua.errors import ConflictError
from mutua.installation import values
from mutua.programs.cli import common, installer
from mutua.programs.cli.install import Files, Settings, operators_of, seconds_of, warn_of_unknown
from mutua.programs.cli.main import Options
from mutua.programs.cli.version import client_version, version_parts
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import PODS


def upgrade(
    context: typer.Context,
    filename: Files = None,
    settings: Settings = None,
    yes: Annotated[bool, typer.Option("--skip-confirmation", "-y", help="Do not ask.")] = False,
    timeout: Annotated[str, typer.Option("--readiness-timeout", help="How long to wait, as in 300s or 5m.")] = "300s",
    revision: Annotated[str, typer.Option("--revision", "-r", help="Which revision.")] = "default",
    force: Annotated[bool, typer.Option("--force", help="Also to an older version.")] = False,
) -> None:
    """Bring an installation to this program's version; its settings stay, and --set and -f change them."""
    seconds = seconds_of(timeout)
    given = values.chosen(operators_of(filename or [], "", common.options(context)), settings or ())
    warn_of_unknown(given)

    async def work(kube: KubeClient, chosen: Options) -> None:
        before = await installer.installed(kube, chosen.istio_namespace, revision)
        own = values.chosen([before.chosen, given], ())
        after = values.wanted(own, client_version(), values.platform_of(await kube.server_version()))
        if version_parts(after.tag) < version_parts(before.tag) and not force:
            raise ConflictError(
                f"revision {revision} is of version {before.tag}, which is newer than {after.tag}",
                "use a newer program, or go back on purpose with --force",
            )
        common.say(f"Revision {revision} in namespace {chosen.istio_namespace}: {before.tag} to {after.tag}")
        if not yes:
            typer.confirm("Proceed?", abort=True, err=True)
        await installer.install(kube, after, common.say, seconds)
        await _tell_of_sidecars(kube, after.tag)

    common.with_kube(context, work)


async def _tell_of_sidecars(kube: KubeClient, tag: str) -> None:
    """A sidecar is as old as its pod: who has to be made anew."""
    pods = await kube.list(PODS, field_selector="status.phase=Running")
    old = sorted(
        {
            str(pod["metadata"]["namespace"])
            for pod in pods
            if (image := common.proxy_image(pod)) and common.image_tag(image) != tag
        }
    )
    for namespace in old:
        restart = f"kubectl rollout restart deployment -n {namespace}"
        common.say(
            f"sidecars of namespace {namespace} are of another version until their pods are made anew: {restart}"
        )
