"""`mutua version`: what runs here, in the control plane, and beside the workloads."""

import asyncio
import platform
from collections import Counter
from typing import Annotated, Any

import typer

from mutua.errors import InvalidInputError, MutuaError
from mutua.programs.cli import common
from mutua.programs.cli.main import Options
from mutua.system.kube import KubeClient, Object
from mutua.system.kube_resources import PODS


def version(
    context: typer.Context,
    output: Annotated[str, typer.Option("--output", "-o", help="json or yaml.")] = "",
    remote: Annotated[bool, typer.Option("--remote/--no-remote", help="Ask the cluster, too.")] = True,
    short: Annotated[bool, typer.Option("--short/--no-short", "-s", help="Version numbers only.")] = True,
) -> None:
    """Versions of client, control plane and proxies."""
    if output not in ("", "json", "yaml"):
        raise InvalidInputError("--output must be 'yaml' or 'json'")
    own = client_version()
    control_plane: list[Object] = []
    proxies: list[Object] = []
    if remote:
        try:
            control_plane, proxies = common.with_kube(context, _pods)
        except MutuaError as error:
            common.say(f"the cluster's versions are unknown: {error.message}")
            remote = False
    if output:
        common.print_object(_document(own, control_plane, proxies), output, indent=2)
        return
    print(f"client version: {own}" if short else f"client version: {own} (Python {platform.python_version()})")
    if remote:
        print("\n".join(_lines(control_plane, proxies)))
        if not control_plane:
            common.say("Istio is not present in the cluster")


def client_version() -> str:
    """The version of this program."""
    from importlib.metadata import version as installed

    return installed("mutua")


def version_parts(text: str) -> tuple[int, ...]:
    """A version's numbers, as in 1.20.3. Raises InvalidInputError."""
    numbers = text.lstrip("v").partition("-")[0].split(".")
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise InvalidInputError(f"{text!r} is no version", "write it as in 1.20 or 0.1.0")
    return tuple(map(int, numbers))


async def _pods(kube: KubeClient, chosen: Options) -> tuple[list[Object], list[Object]]:
    """The running pods of the control plane, and all pods with a sidecar."""
    own, everywhere = await asyncio.gather(
        kube.list(PODS, chosen.istio_namespace, label_selector="app=istiod", field_selector="status.phase=Running"),
        kube.list(PODS, field_selector="status.phase=Running"),
    )
    return list(own), [pod for pod in everywhere if common.proxy_image(pod)]


def _lines(control_plane: list[Object], proxies: list[Object]) -> list[str]:
    lines = []
    versions = {_control_plane_version(pod) for pod in control_plane}
    if len(versions) == 1:
        lines.append(f"control plane version: {versions.pop()}")
    else:
        lines += [f"{pod['metadata']['name']} version: {_control_plane_version(pod)}" for pod in control_plane]
    counts = Counter(common.image_tag(common.proxy_image(pod)) for pod in proxies)
    told = ", ".join(f"{tag} ({count} proxies)" for tag, count in sorted(counts.items(), reverse=True))
    return [*lines, f"data plane version: {told or 'none'}"]


def _document(own: str, control_plane: list[Object], proxies: list[Object]) -> dict[str, Any]:
    client = {"version": own, "revision": "", "golang_version": "", "status": "", "tag": own}
    document: dict[str, Any] = {"clientVersion": client}
    if control_plane:
        document["meshVersion"] = [
            {
                "Component": "pilot",
                "Revision": (pod["metadata"].get("labels") or {}).get("istio.io/rev", "default"),
                "Info": client | {"version": _control_plane_version(pod), "tag": _control_plane_version(pod)},
            }
            for pod in control_plane
        ]
    if proxies:
        document["dataPlaneVersion"] = [
            {
                "ID": f"{pod['metadata']['name']}.{pod['metadata']['namespace']}",
                "IstioVersion": common.image_tag(common.proxy_image(pod)),
                "Type": "sidecar",
            }
            for pod in proxies
        ]
    return document


def _control_plane_version(pod: Object) -> str:
    containers = (pod.get("spec") or {}).get("containers") or ()
    return common.image_tag(next((str(item["image"]) for item in containers if item["name"] == "discovery"), ""))
