"""`mutua install`: the mesh into any cluster."""

from pathlib import Path
from typing import Annotated

import typer

from mutua.errors import InvalidInputError
from mutua.installation import values
from mutua.installation.values import Installation, Tree
from mutua.programs.cli import common, installer
from mutua.programs.cli.main import Options
from mutua.programs.cli.version import client_version
from mutua.sources import files
from mutua.system.kube import KubeClient

Files = Annotated[list[Path] | None, typer.Option("--filename", "-f", help="IstioOperator file; may be repeated.")]
Settings = Annotated[list[str] | None, typer.Option("--set", "-s", help="path=value; may be repeated.")]
Revision = Annotated[str, typer.Option("--revision", "-r", help="Install beside others, under this revision's name.")]


def install(
    context: typer.Context,
    filename: Files = None,
    settings: Settings = None,
    yes: Annotated[bool, typer.Option("--skip-confirmation", "-y", help="Do not ask.")] = False,
    timeout: Annotated[str, typer.Option("--readiness-timeout", help="How long to wait, as in 300s or 5m.")] = "300s",
    revision: Revision = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the manifests, change nothing.")] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="How --dry-run prints: yaml or json.")] = "yaml",
    force: Annotated[bool, typer.Option("--force", hidden=True)] = False,
    verify: Annotated[bool, typer.Option("--verify", hidden=True)] = False,
) -> None:
    """Install the mesh, or bring an installation to what is asked for."""
    seconds = seconds_of(timeout)
    if output not in ("yaml", "json"):
        raise InvalidInputError(f'output format "{output}" not supported', "choose yaml or json")
    operators = operators_of(filename or [], revision, common.options(context))
    own = values.chosen(operators, settings or ())
    warn_of_unknown(own)
    profile = values.resolve(operators, settings or ())["profile"]
    if dry_run:
        _print(values.wanted(own, client_version()), output)
        return
    if not yes:
        question = f'This will install mutua {client_version()} profile "{profile}" into the cluster. Proceed?'
        typer.confirm(question, abort=True, err=True)

    async def work(kube: KubeClient, _options: Options) -> None:
        version = await kube.server_version()
        if trouble := values.too_old(version):
            common.say(f"Warning: {trouble}: not everything will work; `mutua x precheck` says more")
        platform = values.platform_of(version)
        await installer.install(kube, values.wanted(own, client_version(), platform), common.say, seconds)

    common.with_kube(context, work)


def warn_of_unknown(own: Tree) -> None:
    """A line per setting that nothing reads."""
    for path in values.unknown(own):
        common.say(f"Warning: nothing reads the setting {path}; it is misspelt, or not supported")


def operators_of(filenames: list[Path], revision: str, options: Options) -> list[Tree]:
    """What the command line asks for beside `--set`. Raises InvalidInputError."""
    operators: list[Tree] = [{"values": {"global": {"istioNamespace": options.istio_namespace}}}]
    for path in filenames:
        operators += [values.operator_spec(document, str(path)) for document in files.documents(path)]
    if revision:
        operators.append({"revision": revision})
    return operators


def _print(wanted: Installation, output: str) -> None:
    """Every object: YAML documents, or one JSON List, as kubectl applies them."""
    from mutua.installation import manifests

    objects = [item for component in manifests.components(wanted) for item in component.objects]
    if output == "json":
        common.print_object({"apiVersion": "v1", "kind": "List", "items": objects}, output)
        return
    common.print_documents(objects)


def seconds_of(text: str) -> float:
    """Of a duration with one unit. Raises InvalidInputError."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    if not unit or not text[:-1].isdigit():
        raise InvalidInputError(f"--readiness-timeout {text!r} is not a duration", "for example 300s or 5m")
    return float(text[:-1]) * unit
