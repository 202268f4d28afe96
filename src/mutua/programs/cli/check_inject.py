"""`mutua x check-inject`: whether a pod gets a sidecar, and why."""

import sys
from typing import Annotated

import typer

from mutua.errors import InvalidInputError, NotFoundError
from mutua.injection import decide, selectors
from mutua.injection.selectors import Explanation
from mutua.programs.cli import common, completion
from mutua.programs.cli.main import Options
from mutua.reports import injection as report
from mutua.system.kube import KubeClient, Object
from mutua.system.kube_resources import MUTATING_WEBHOOKS, NAMESPACES, PODS


def check_inject(
    context: typer.Context,
    pod: completion.Pod = "",
    labels: Annotated[str, typer.Option("--labels", "-l", help="Of a pod that does not exist, as in app=x,v=1.")] = "",
) -> None:
    """Which injector would put a sidecar into a pod, and why or why not."""
    if bool(pod) == bool(labels):
        raise InvalidInputError(
            "name a pod, or give --labels of one", "for example `mutua x check-inject deploy/web -n shop`"
        )

    async def work(kube: KubeClient, chosen: Options) -> list[Explanation]:
        described: Object = {"metadata": {"labels": _parsed(labels)}}
        namespace = chosen.namespace or kube.namespace
        if pod:
            found = await common.find_pod(kube, pod, chosen)
            namespace = found.namespace
            described = await kube.get(PODS, found.name, namespace)
        holder = await kube.get(NAMESPACES, namespace)
        webhooks = await kube.list(MUTATING_WEBHOOKS, label_selector="app=sidecar-injector")
        if not webhooks:
            raise NotFoundError("no Istio injection hooks present", "install the mesh with `mutua install`")
        return [_explained(item, holder, described) for item in webhooks]

    explanations = common.with_kube(context, work)
    sys.stdout.write(report.table(explanations))
    if sum(item.injected for item in explanations) > 1:
        common.say("Error: multiple webhooks will inject, which can lead to errors")
        raise typer.Exit(1)


def _explained(webhook: Object, namespace: Object, pod: Object) -> Explanation:
    metadata = webhook["metadata"]
    configuration = {
        "name": metadata["name"],
        "labels": metadata.get("labels"),
        "webhooks": webhook.get("webhooks"),
    }
    pod_labels = (pod.get("metadata") or {}).get("labels") or {}
    found = selectors.explain(configuration, namespace["metadata"].get("labels") or {}, pod_labels)
    # The API server asks the injector about the pod, and the injector declines.
    refusal = decide.refusal(pod) if found.injected else ""
    return found._replace(injected=False, reason=refusal) if refusal else found


def _parsed(labels: str) -> dict[str, str]:
    found = {}
    for part in filter(None, labels.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise InvalidInputError(f'"{part}" is no label', "write key=value,key=value")
        found[key] = value
    return found
