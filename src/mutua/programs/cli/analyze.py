"""`mutua analyze`: what is wrong, doubtful or without effect in a cluster, in manifests, or in both together."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from mutua.analysis import registry, run
from mutua.analysis.check import Check
from mutua.analysis.inputs import World
from mutua.analysis.message import Message, Subject
from mutua.api import kinds
from mutua.api.findings import Finding, Severity
from mutua.api.meta import duration_seconds
from mutua.errors import InvalidInputError, UnavailableError
from mutua.mesh.objects import ObjectSet
from mutua.programs.cli import analyze_sources, common
from mutua.programs.cli.analyze_sources import Manifests, Settings
from mutua.programs.cli.main import USAGE_EXIT_CODE, Options
from mutua.reports import analysis as report
from mutua.sources import files
from mutua.system import clock
from mutua.system.kube import KubeClient

PARSE_EXIT_CODE = 65
FOUND_EXIT_CODE = 79
_FORMATS = ("log", "json", "yaml")
_LEVELS = {severity.value.casefold(): severity for severity in Severity}


class _Target(NamedTuple):
    """What is analysed, and how to call it. `namespace` "" = all namespaces."""

    sources: tuple[str, ...]
    namespace: str

    def __str__(self) -> str:
        if len(self.sources) > 1:
            return "\n  - ".join(("", *self.sources))
        if self.sources:
            return self.sources[0]
        return f"namespace: {self.namespace}" if self.namespace else "all namespaces"


def analyze(
    context: typer.Context,
    sources: Annotated[list[str] | None, typer.Argument(metavar="FILE", help="Files, folders, or - .")] = None,
    list_analyzers: Annotated[bool, typer.Option("--list-analyzers", "-L", help="List the checks.")] = False,
    use_kube: Annotated[bool, typer.Option("--use-kube/--no-use-kube", "-k", help="Read the cluster.")] = True,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Look at every namespace.")] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="log, json or yaml.")] = "log",
    failure_threshold: Annotated[str, typer.Option(help="Level from which the exit code is 79.")] = "Error",
    output_threshold: Annotated[str, typer.Option(help="Level from which messages are shown.")] = "Info",
    suppress: Annotated[
        list[str] | None, typer.Option("--suppress", "-S", help='Not to show, as "IST0103=Pod mypod.testing".')
    ] = None,
    analyzer: Annotated[list[str] | None, typer.Option("--analyzer", help="Only the checks of this name.")] = None,
    mesh_config_file: Annotated[str, typer.Option("--meshConfigFile", help="Mesh config to use.")] = "",
    color: Annotated[bool | None, typer.Option("--color/--no-color", help="Color the levels.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what was looked at.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive/--no-recursive", "-R", hidden=True)] = True,
    ignore_unknown: Annotated[
        bool, typer.Option("--ignore-unknown/--no-ignore-unknown", help="Broken files are no failure.")
    ] = False,
    timeout: Annotated[str, typer.Option(help="How long the cluster may take to answer.")] = "30s",
    explain: Annotated[str, typer.Option(metavar="CODE", help="Explain a code, as MUT0001.")] = "",
) -> int:
    """Find what is wrong, doubtful or without effect in a cluster or in manifests."""
    if explain:
        return _explain(explain)
    if list_analyzers:
        sys.stdout.write(report.checks(registry.CHECKS))
        return 0
    try:
        suppressions = [run.Suppression.parse(text) for text in suppress or ()]
        failing, shown, seconds = _level(failure_threshold), _level(output_threshold), duration_seconds(timeout)
        if output not in _FORMATS:
            raise InvalidInputError(f"--output must be one of {'|'.join(_FORMATS)}")
    except (InvalidInputError, ValueError) as error:
        common.say(f"Error: {error}")
        return USAGE_EXIT_CODE
    _warn_of_unknown(suppressions)

    checks = run.chosen(analyzer or ())
    world, manifests, target = asyncio.run(
        _read(
            tuple(sources or ()),
            common.options(context),
            checks,
            use_kube=use_kube,
            all_namespaces=all_namespaces,
            mesh_config_file=mesh_config_file,
            seconds=seconds,
        )
    )
    found = run.visible(run.analyze(world, checks), namespace=target.namespace, suppressions=suppressions)
    if verbose:
        _tell_what_was_done(target, checks)
    _print([item for item in found if run.RANK[item.severity] <= run.RANK[shown]], manifests, output, color)
    return _conclude(found, manifests, target, failing, output, ignore_unknown=ignore_unknown)


async def _read(
    sources: tuple[str, ...],
    chosen: Options,
    checks: Sequence[Check],
    *,
    use_kube: bool,
    all_namespaces: bool,
    mesh_config_file: str,
    seconds: float,
) -> tuple[World, Manifests, _Target]:
    """Everything that is analysed. Raises MutuaError."""
    objects, settings = ObjectSet(), Settings()
    problems: tuple[Finding, ...] = ()
    namespace = chosen.namespace or "default"
    if use_kube:
        async with KubeClient.connect(chosen.kubeconfig, chosen.context) as kube:
            namespace = chosen.namespace or kube.namespace
            wanted = {kind.name: kind for check in checks for kind in check.inputs}
            try:
                async with asyncio.timeout(seconds):
                    settings = await analyze_sources.settings_of(kube, chosen.istio_namespace)
                    objects, problems = await analyze_sources.from_cluster(
                        kube, wanted.values(), chosen.istio_namespace
                    )
            except TimeoutError:
                hint = "give it more time with --timeout, or analyze files alone with --use-kube=false"
                raise UnavailableError(f"{kube.server} did not answer within {seconds:g} seconds", hint) from None
            known = objects.of_kind(kinds.NAMESPACE)
            if not all_namespaces and known and ("", namespace) not in known:
                common.say(f"Warning: there is no namespace {namespace} in the cluster")
    if all_namespaces:
        namespace = ""
    if mesh_config_file:
        text = files.read_text(Path(mesh_config_file))
        settings = settings._replace(mesh=analyze_sources.read_mesh_config(text, mesh_config_file))
    manifests = analyze_sources.from_files(sources, namespace)
    named = set(manifests.positions)
    world = World(
        objects.replace(analyze_sources.dated(manifests.changes, objects) if use_kube else manifests.changes),
        settings.mesh,
        settings.injector,
        chosen.istio_namespace,
        is_complete=use_kube,
        unreadable=(
            *(item for item in problems if Subject(item.kind, item.namespace, item.name) not in named),
            *manifests.unreadable,
        ),
        now=clock.now(),
    )
    return world, manifests, _Target(sources, namespace if use_kube and not all_namespaces else "")


def _print(messages: Sequence[Message], manifests: Manifests, output: str, color: bool | None) -> None:
    if output == "log":
        colored = _wants_color() if color is None else color
        sys.stdout.write(report.lines(messages, manifests.positions, colored=colored))
        return
    if output == "json":
        import json

        text = json.dumps(report.documents(messages, manifests.positions), indent="\t", ensure_ascii=False)
        sys.stdout.write(text + "\n")
        return
    common.print_object(report.documents(messages, manifests.positions), output)


def _wants_color() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and "NO_COLOR" not in os.environ


def _conclude(
    found: Sequence[Message],
    manifests: Manifests,
    target: _Target,
    failing: Severity,
    output: str,
    *,
    ignore_unknown: bool,
) -> int:
    """Says what came out, to the person; the exit code. Only the log format fails. Source: istioctl analyze."""
    if manifests.broken:
        common.say("Error(s) adding files: " + "\n".join(manifests.broken))
    if output != "log":
        return 0
    several = len(target.sources) > 1
    colon, stop = (":", "") if several else (" ", ".")
    if any(run.RANK[message.severity] <= run.RANK[failing] for message in found):
        common.say(f"Error: Analyzers found issues when analyzing{colon}{target}{stop}")
        common.say("See `mutua analyze --explain CODE` for more information about causes and resolutions.")
        return FOUND_EXIT_CODE
    count = len(manifests.broken)
    unparsed = f" (but {count} file{'s' if count > 1 else ''} could not be parsed)" if count else ""
    if not found:
        mark = "" if count else "✔ "
        common.say(f"{mark}No validation issues found when analyzing{colon}{target}{unparsed}{stop}")
    if count and not ignore_unknown:
        common.say("Error: Some files couldn't be parsed.")
        return PARSE_EXIT_CODE
    return 0


def _tell_what_was_done(target: _Target, checks: Sequence[Check]) -> None:
    common.say(f"Analyzed resources in {target}")
    executed = {check.name for check in checks}
    skipped = {check.name for check in registry.CHECKS} - executed
    for title, names in (("Skipped analyzers:", skipped), ("Executed analyzers:", executed)):
        if names:
            common.say("\n".join((title, *(f"\t {name}" for name in sorted(names)))))
    common.say("")


def _warn_of_unknown(suppressions: Sequence[run.Suppression]) -> None:
    for suppression in suppressions:
        if not suppression.is_known:
            name = f"Supplied message code '{suppression.code}'"
            common.say(f"Warning: {name} is an unknown message code and will not have any effect.")


def _explain(code: str) -> int:
    page = report.explanation(code.upper())
    if not page:
        raise InvalidInputError(f"no message has the code {code}", "as in MUT0001 or IST0101")
    sys.stdout.write(page)
    return 0


def _level(text: str) -> Severity:
    found = _LEVELS.get(text.casefold())
    if found is None:
        raise InvalidInputError(f'"{text}" is not a level; choose one of Info, Warning, Error')
    return found
