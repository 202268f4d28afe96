"""`mutua check`: whether one workload may call another, step by step, in a cluster or in manifests alone."""

import asyncio
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from mutua.analysis import projection
from mutua.errors import InvalidInputError, NotFoundError
from mutua.injection.settings import InjectorSettings
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.mesh.snapshot import MeshSnapshot
from mutua.programs.cli import analyze_sources, check_targets, common
from mutua.programs.cli.analyze_sources import Settings
from mutua.programs.cli.main import Options
from mutua.reports import verdict as report
from mutua.system import clock
from mutua.system.kube import KubeClient
from mutua.verdict import call
from mutua.verdict.authorization import Answer
from mutua.verdict.call import Call, Outcome
from mutua.verdict.request import HttpRequest
from mutua.verdict.tokens import Token

REFUSED_EXIT_CODE = 1
_FORMATS = ("text", "json", "yaml")


class _World(NamedTuple):
    snapshot: MeshSnapshot
    namespace: str


def check(
    context: typer.Context,
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="[TYPE/]NAME[.NAMESPACE]")],
    server: Annotated[str, typer.Argument(metavar="SERVER", help="[TYPE/]NAME[.NAMESPACE][:PORT]")],
    method: Annotated[str, typer.Option("--method", "-X", help="HTTP method.")] = "GET",
    path: Annotated[str, typer.Option("--path", help="Path with its query.")] = "/",
    host: Annotated[str, typer.Option("--host", help="Host header; the Service's name by default.")] = "",
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="name=value; may be repeated.")] = None,
    claims: Annotated[str, typer.Option("--jwt-claims", help="Claims of a valid token, as a JSON object.")] = "",
    authorizer: Annotated[
        list[str] | None, typer.Option("--authorizer", help="name=allow, deny or unavailable: what a provider answers.")
    ] = None,
    tcp: Annotated[bool, typer.Option("--tcp", help="The client sends bytes that are no HTTP.")] = False,
    filename: Annotated[
        list[str] | None, typer.Option("--filename", "-f", help="Judge manifests alone: files, folders, or - .")
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="text, json or yaml.")] = "text",
) -> int:
    """Say whether one workload may call another, and which policy decides. Exit code 0: it may, 1: it may not."""
    if output not in _FORMATS:
        raise InvalidInputError(f'output format "{output}" not supported', f"choose one of {', '.join(_FORMATS)}")
    token = _token(claims)
    headers = tuple(_header(each) for each in header or ())
    answers = dict(_answer(each) for each in authorizer or ())
    chosen = common.options(context)
    world = _of_files(filename, chosen) if filename else asyncio.run(_of_cluster(chosen))
    caller = check_targets.client(world.snapshot, client, world.namespace)
    called = check_targets.destination(world.snapshot, caller, server, world.namespace)
    request = HttpRequest(method=method, target=path, authority=host or called.authority, headers=headers)
    outcomes = call.judge(
        world.snapshot,
        Call(
            client=caller,
            host=called.host,
            server=called.server,
            port=called.port,
            request=None if tcp else request,
            token=token,
            answers=answers,
            now=clock.now().timestamp(),
        ),
    )
    if not outcomes:
        raise NotFoundError(f"{server!r} has no endpoint that is ready", "are its pods running, and selected by it?")
    name, destination = f"{caller.namespace}/{caller.name}", f"{called.host or called.authority}:{called.port}"
    _print(name, destination if called.host else called.authority, request, outcomes, output, tcp=tcp)
    return 0 if all(outcome.allowed for outcome in outcomes) else REFUSED_EXIT_CODE


def _print(
    client: str, destination: str, request: HttpRequest, outcomes: tuple[Outcome, ...], output: str, *, tcp: bool
) -> None:
    if output == "text":
        what = "" if tcp else f"  {request.method} {request.target}"
        print(report.text(f"{client}  ->  {destination}{what}", outcomes), end="")
        return
    common.print_object(report.document(client, destination, outcomes), output, indent=2)


async def _of_cluster(chosen: Options) -> _World:
    """What the cluster's objects mean at this moment. Raises KubeError."""
    async with KubeClient.connect(chosen.kubeconfig, chosen.context) as kube:
        settings, (objects, problems) = await asyncio.gather(
            analyze_sources.settings_of(kube, chosen.istio_namespace),
            analyze_sources.from_cluster(kube, projection.SNAPSHOT_INPUTS),
        )
        for finding in problems:
            common.say(f"Warning: {finding}")
        return _world(objects, settings, chosen.namespace or kube.namespace)


def _of_files(names: list[str], chosen: Options) -> _World:
    """What manifests would mean in a cluster of their own. Raises InvalidInputError for what cannot be read."""
    namespace = chosen.namespace or "default"
    manifests = analyze_sources.from_files(names, namespace)
    mistakes = [*manifests.broken, *(str(finding) for finding in manifests.unreadable if finding.is_error)]
    if mistakes:
        # An answer about a part of the policies would be no answer.
        raise InvalidInputError("\n".join(mistakes), "`mutua validate -f` shows everything that is wrong")
    return _world(ObjectSet().replace(manifests.changes), Settings(), namespace)


def _world(objects: ObjectSet, settings: Settings, namespace: str) -> _World:
    injector: InjectorSettings = settings.injector
    complete = projection.project(objects, injector)
    snapshot = build.snapshot(complete, settings.mesh, cluster_domain=injector.cluster_domain)
    return _World(snapshot, namespace)


def _token(text: str) -> Token | None:
    if not text:
        return None
    try:
        return Token(msgspec.json.decode(text, type=dict[str, Any]))
    except msgspec.DecodeError as error:
        raise InvalidInputError(
            f"--jwt-claims is not a JSON object: {error}", """for example '{"iss": "https://issuer", "sub": "alice"}'"""
        ) from None


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InvalidInputError(f"--header {text!r} is not name=value")
    return name.strip(), value.strip()


def _answer(text: str) -> tuple[str, Answer]:
    name, equals, answer = text.partition("=")
    if not equals or answer not in list(Answer):
        raise InvalidInputError(f"--authorizer {text!r} is not name=answer", f"an answer is {', '.join(Answer)}")
    return name, Answer(answer)
