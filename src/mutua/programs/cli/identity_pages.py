"""What the control plane's replicas know of identities, read from the loopback of their pods and put together."""

import asyncio
from typing import Any, NamedTuple

from mutua.errors import UnavailableError
from mutua.programs.cli.main import Options
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError
from mutua.system.kube_pod_http import PodHttp
from mutua.system.kube_resources import PODS

PORT = 15016
SELECTOR = "app=istiod"


async def certificates(kube: KubeClient, options: Options) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Each proxy's latest report as its JSON object, and (namespace, pod) of those that have told no replica yet.

    Raises UnavailableError when no replica answers.
    """
    pages = await _pages(kube, options, "/certificates")
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for report in sorted((report for page in pages for report in page["certificates"]), key=lambda each: each["at"]):
        latest[(report["namespace"], report["pod"])] = report
    silent = {(each["namespace"], each["pod"]) for page in pages for each in page["silent"]} - set(latest)
    return [report for _, report in sorted(latest.items())], sorted(silent)


async def next_rotations(kube: KubeClient, options: Options) -> dict[int, str]:
    """When each certificate will be replaced (RFC 3339), by its serial number. Raises UnavailableError."""
    reports, _ = await certificates(kube, options)
    return {int(each["serial"], 16): each["next_rotation"] for each in reports if each["next_rotation"]}


class RotationPage(NamedTuple):
    """What a replica says about the authority."""

    waiting: list[dict[str, str]]  # `namespace`, `pod`, `why` of each proxy that a rotation waits for
    problem: str  # what is wrong with the plugged-in authority, "" = nothing


async def rotation(kube: KubeClient, options: Options) -> RotationPage:
    """What the first replica that answers says. Raises UnavailableError."""
    page = (await _pages(kube, options, "/rotation"))[0]
    return RotationPage(list(page["waiting"]), str(page.get("problem", "")))


async def _pages(kube: KubeClient, options: Options, path: str) -> list[Any]:
    pods = [
        pod["metadata"]["name"]
        for pod in await kube.list(PODS, options.istio_namespace, label_selector=SELECTOR)
        if (pod.get("status") or {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
    ]
    asked = (PodHttp(kube, options.istio_namespace, name, PORT).get_json(path) for name in pods)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    pages = []
    for answer in answers:
        if isinstance(answer, BaseException):
            if not isinstance(answer, KubeError):
                raise answer
        else:
            pages.append(answer)
    if not pages:
        trouble = next((str(answer) for answer in answers if isinstance(answer, KubeError)), "no pod is running")
        raise UnavailableError(
            f"the control plane in namespace {options.istio_namespace} does not answer: {trouble}",
            f"kubectl get pods -n {options.istio_namespace} -l {SELECTOR}",
        )
    return pages
