"""`mutua x precheck`: is it safe to install or upgrade here?"""

import asyncio
from typing import Annotated

import typer

from mutua.analysis import run
from mutua.api import kinds
from mutua.api.findings import Severity
from mutua.errors import MutuaError
from mutua.installation import values
from mutua.programs.cli import common, live
from mutua.programs.cli.main import Options
from mutua.programs.cli.version import client_version, version_parts
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeRefusedError
from mutua.system.kube_resources import PODS, Resource

_REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews")
_ISTIO_GROUPS = ("networking.istio.io", "security.istio.io", "telemetry.istio.io", "extensions.istio.io")
_RBAC = "rbac.authorization.k8s.io"
# What an installation creates. The group, the plural, and whether it is in the control plane's namespace.
_CREATED = (
    ("", "namespaces", False),
    (_RBAC, "clusterroles", False),
    (_RBAC, "clusterrolebindings", False),
    ("apiextensions.k8s.io", "customresourcedefinitions", False),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", False),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", False),
    (_RBAC, "roles", True),
    (_RBAC, "rolebindings", True),
    ("", "serviceaccounts", True),
    ("", "services", True),
    ("apps", "deployments", True),
    ("", "configmaps", True),
)


def precheck(
    context: typer.Context,
    skip_control_plane: Annotated[
        bool, typer.Option("--skip-controlplane", help="Do not ask whether you may install.")
    ] = False,
    from_version: Annotated[
        str, typer.Option("--from-version", help="What changes for this cluster after this version, as in 1.20.")
    ] = "",
) -> None:
    """Whether the cluster is fit for the mesh, you may install it, and its proxies and policies are in order."""

    before = version_parts(from_version) if from_version else ()

    async def work(kube: KubeClient, chosen: Options) -> list[str]:
        rights = [] if skip_control_plane else await _rights(kube, chosen.istio_namespace)
        try:
            return [*rights, *await looked_at(kube, chosen)]
        except KubeRefusedError as error:
            if not rights:
                raise
            return [*rights, f"Error: {error.message}"]

    async def looked_at(kube: KubeClient, chosen: Options) -> list[str]:
        found = [*await _cluster(kube), *await _proxies(kube)]
        if before > version_parts(client_version()):
            # No version of ours is that high: it is one of Istio's.
            found += await _left_behind(kube, from_version)
        messages = run.analyze(await live.world(kube, chosen))
        grave = (Severity.ERROR, Severity.WARNING)
        found += [
            f"{item.severity.value} [{item.code}] ({item.subject}) {item.sentence}"
            for item in messages
            if item.severity in grave
        ]
        return found

    issues = common.with_kube(context, work)
    if not issues:
        common.say(
            "✔ No issues found when checking the cluster. Istio is safe to install or upgrade!\n"
            "  To get started, check out https://istio.io/latest/docs/setup/getting-started/."
        )
        return
    print("\n".join(issues))
    raise MutuaError(
        "Issues found when checking the cluster. Istio may not be safe to install or upgrade.",
        "`mutua analyze --explain CODE` says more about a finding",
    )


async def _left_behind(kube: KubeClient, version: str) -> list[str]:
    """Objects of Istio's kinds in the cluster that nobody acts on any more."""
    served = {(kind.group, kind.plural) for kind in kinds.ours()}
    found = []
    for group in _ISTIO_GROUPS:
        known = await kube.find_api_group(group)
        for resource in known:
            objects = await kube.list(resource) if (group, resource.plural) not in served else ()
            if objects:
                what = f"{len(objects)} {resource.plural}.{group}"
                found.append(f"Warning: {what}: Istio {version} acts on them, and mutua does not")
    return found


async def _cluster(kube: KubeClient) -> list[str]:
    trouble = values.too_old(await kube.server_version())
    return [f"Error: {trouble}"] if trouble else []


async def _proxies(kube: KubeClient) -> list[str]:
    """Sidecars of another version than this program, which an upgrade would leave behind."""
    pods = await kube.list(PODS, field_selector="status.phase=Running")
    own = client_version()
    found = []
    for pod in pods:
        image = common.proxy_image(pod)
        if image and common.image_tag(image) != own:
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            found.append(f"Warning: the sidecar of {name} is of version {common.image_tag(image)}, not {own}")
    return found


async def _rights(kube: KubeClient, namespace: str) -> list[str]:
    async def may(group: str, plural: str, inside: bool) -> bool:
        attributes = {"group": group, "resource": plural, "verb": "create"} | (
            {"namespace": namespace} if inside else {}
        )
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        return bool(((await kube.create(_REVIEWS, body)).get("status") or {}).get("allowed"))

    answers = await asyncio.gather(*(may(*item) for item in _CREATED))
    missing = [item for item, allowed in zip(_CREATED, answers, strict=True) if not allowed]
    return [
        f"Error: an installation creates {plural}{f' in namespace {namespace}' if inside else ''}, which you may not"
        for _, plural, inside in missing
    ]
