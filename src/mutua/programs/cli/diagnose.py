"""`mutua diagnose`: from a symptom to its cause and its cure, with the evidence of each step."""

from typing import Annotated

import msgspec
import typer

from mutua.errors import InvalidInputError
from mutua.programs.cli import common, completion
from mutua.programs.cli.main import Options
from mutua.reports import diagnosis, error_texts
from mutua.reports.diagnosis_facts import Change, Diagnosis
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import DEPLOYMENTS, NAMESPACES, Resource

CAUSE_FOUND_EXIT_CODE = 79
_MARKS = {True: "✔", False: "✘", None: "-"}
_RESOURCES = {
    "Namespace": NAMESPACES,
    "Deployment": DEPLOYMENTS,
    "DestinationRule": Resource("networking.istio.io", "v1", "destinationrules"),
    "AuthorizationPolicy": Resource("security.istio.io", "v1", "authorizationpolicies"),
}


def diagnose(
    context: typer.Context,
    pods: Annotated[
        list[str] | None,
        typer.Argument(metavar="[POD | CLIENT SERVER[:PORT]]", show_default=False, autocompletion=completion.pods),
    ] = None,
    text: Annotated[str, typer.Option("--text", help="An error text to explain.")] = "",
    apply: Annotated[bool, typer.Option("--apply", help="Make the changes that are proposed.")] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="text, json or yaml.")] = "text",
) -> None:
    """Find out why a pod, or a call from one pod to another, does not work. Exit code 79 if a cause is found."""
    named = pods or []
    if len(named) > 2 or not (named or text):
        raise InvalidInputError(
            "name a pod, or a client and a server, or an error text",
            "for example `mutua diagnose deploy/frontend svc/backend:80`",
        )
    if text:
        _explain(text)
    if not named:
        return

    async def work(kube: KubeClient, chosen: Options) -> Diagnosis:
        # What a text means is told without all that looking at a cluster needs.
        from mutua.programs.cli.evidence import Gatherer

        gatherer = Gatherer(kube, chosen)
        evidence = await (gatherer.of_pod(named[0]) if len(named) == 1 else gatherer.of_call(named[0], named[1]))
        found = diagnosis.diagnose(msgspec.structs.replace(evidence, mesh_roots=await gatherer.mesh_roots()))
        _show(found, output)
        if apply and found.cause:
            await _apply(kube, found)
        return found

    if common.with_kube(context, work).cause:
        raise typer.Exit(CAUSE_FOUND_EXIT_CODE)


def _explain(text: str) -> None:
    meanings = error_texts.understood(text)
    if not meanings:
        raise InvalidInputError(
            "the text is not known", "`mutua diagnose CLIENT SERVER` looks at the live system instead"
        )
    for meaning in meanings:
        print(f"{meaning.title}: {meaning.explanation}")
        for cause in meaning.causes:
            print(f"  {cause}: {diagnosis.CAUSES[cause]}")
        print(f"To find out which: {meaning.next}")


def _show(found: Diagnosis, output: str) -> None:
    if output in ("json", "yaml"):
        common.print_object(found, output)
        return
    for look in found.looks:
        print(f"{_MARKS[look.good]} {look.question} {look.evidence}")
    print()
    print(f"Cause: {found.cause}: {found.sentence}" if found.cause else found.sentence)
    made = [change for change in found.fix.changes if not change.merge]
    if found.fix.commands or made:
        print("Fix:")
    for command in found.fix.commands:
        print(f"  {command}")
    for change in made:
        common.print_documents([change.body])


async def _apply(kube: KubeClient, found: Diagnosis) -> None:
    """Makes the proposed changes. Raises KubeError."""
    if not found.fix.changes:
        common.say("nothing was changed: this is for a person to decide")
        return
    for change in found.fix.changes:
        await _make(kube, change)
        where = f"{change.namespace}/" if change.namespace else ""
        common.say(f"✔ {change.kind} {where}{change.name} changed")


async def _make(kube: KubeClient, change: Change) -> None:
    resource = _RESOURCES[change.kind]
    if change.merge:
        await kube.patch(resource, change.name, change.body, change.namespace)
    else:
        await kube.apply(resource, change.body, change.namespace)
