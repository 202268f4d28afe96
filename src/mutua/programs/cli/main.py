"""The command `mutua`: the table of commands, options that all share, and how an error speaks."""

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer

from mutua.errors import MutuaError
from mutua.programs.cli import lazy
from mutua.programs.cli.lazy import Command

USAGE_EXIT_CODE = 64
_CLICK_USAGE_CODE = 2
_INTERRUPTED_EXIT_CODE = 130
_ALLOCATIONS_BETWEEN_COLLECTIONS = 100_000


COMMANDS: tuple[Command, ...] = (
    Command("up", "mutua.programs.cli.local", "up", "Start a local cluster with the mesh in it."),
    Command("down", "mutua.programs.cli.local", "down", "Stop a local cluster."),
    Command("status", "mutua.programs.cli.local", "status", "Show the local clusters."),
    Command("images", "mutua.programs.cli.images", "app", "The images that a local cluster knows."),
    Command("demo", "mutua.programs.cli.demo", "demo", "Start everything and prove what it claims."),
    Command("version", "mutua.programs.cli.version", "version", "Versions of client, control plane and proxies."),
    Command("install", "mutua.programs.cli.install", "install", "Install the mesh into a cluster.", ("apply",)),
    Command("upgrade", "mutua.programs.cli.upgrade", "upgrade", "Bring an installation to this version."),
    Command("uninstall", "mutua.programs.cli.uninstall", "uninstall", "Remove the mesh from a cluster."),
    Command("verify-install", "mutua.programs.cli.verify_install", "verify_install", "Check what is installed."),
    Command("check", "mutua.programs.cli.check", "check", "Whether one workload may call another, and who decides."),
    Command("validate", "mutua.programs.cli.validate", "validate", "What is wrong with manifests, by field."),
    Command("analyze", "mutua.programs.cli.analyze", "analyze", "Find what is wrong in a cluster or in manifests."),
    Command("ca", "mutua.programs.cli.ca", "app", "The certificate authority: files, state, rotation."),
    Command("certs", "mutua.programs.cli.certs", "certs", "The certificate of every workload."),
    Command("proxy-config", "mutua.programs.cli.proxy_config", "app", "What a pod's Envoy is configured to.", ("pc",)),
    Command("proxy-status", "mutua.programs.cli.proxy_status", "proxy_status", "What each proxy has.", ("ps",)),
    Command("diagnose", "mutua.programs.cli.diagnose", "diagnose", "Find out why a pod or a call does not work."),
    Command("describe", "mutua.programs.cli.describe", "app", "What a pod or a Service is to the mesh."),
    Command("plaintext", "mutua.programs.cli.plaintext", "plaintext", "Who still speaks without mutual TLS."),
    Command("migrate", "mutua.programs.cli.migrate", "app", "Bring a namespace to STRICT, with a gate and a way back."),
    Command("verify-mtls", "mutua.programs.cli.verify_mtls", "verify_mtls", "Show what is negotiated, as evidence."),
    Command(
        "dashboard",
        "mutua.programs.cli.dashboard",
        "dashboard",
        "The live graph of the mesh in a browser.",
        ("dash", "d"),
    ),
    Command("experimental", "mutua.programs.cli.experimental", "app", "Looking at one workload.", ("x", "exp")),
    Command("completion", "mutua.programs.cli.completion", "completion", "Teach a shell to complete mutua's words."),
)


COMPLETION_VARIABLE = "_MUTUA_COMPLETE"


class Options(NamedTuple):
    """What every command may be told; "" = not given."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    istio_namespace: str = "istio-system"


# The same options, as they are found anywhere on the command line.
_SHARED = {
    "-c": "--kubeconfig",
    "--kubeconfig": "--kubeconfig",
    "--context": "--context",
    "-n": "--namespace",
    "--namespace": "--namespace",
    "-i": "--istioNamespace",
    "--istioNamespace": "--istioNamespace",
}


def _root(
    context: typer.Context,
    kubeconfig: Annotated[str, typer.Option("--kubeconfig", "-c", help="Kubernetes configuration file.")] = "",
    kube_context: Annotated[str, typer.Option("--context", help="Context of the kubeconfig to use.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace to work in.")] = "",
    istio_namespace: Annotated[
        str, typer.Option("--istioNamespace", "-i", help="Namespace of the control plane.")
    ] = "istio-system",
) -> None:
    """Mutual TLS between pods: Istio's API, real Envoy. The options below may stand anywhere on the command line."""
    context.obj = Options(kubeconfig, kube_context, namespace, istio_namespace)


def build() -> Any:
    """The command line's parser."""
    commands = lazy.group_of(COMMANDS)
    app = typer.Typer(cls=commands, add_completion=False, rich_markup_mode=None)
    app.callback(cls=commands)(_root)
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0 done, 1 failed, 64 called wrongly, or what the command itself says."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    # A look-up makes little garbage; searching for it was an eighth of its time.
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS)
    sys.exit(run(words))


def run(words: Sequence[str]) -> int:
    """Runs a command; its exit code. Data goes to stdout, all else to stderr."""
    if COMPLETION_VARIABLE in os.environ:
        importlib.import_module("mutua.programs.cli.completion").enable()
    try:
        code = build().main(args=shared_first(words), prog_name="mutua", standalone_mode=False)
    except MutuaError as error:
        _complain(error.message, error.hint)
        return 1
    except typer.TyperException as error:
        if error.format_message().startswith("Usage: "):
            print(error.format_message())  # a group without a command: what it has is the answer
            return 0
        called_wrongly = error.exit_code == _CLICK_USAGE_CODE
        _complain(error.format_message(), "`mutua COMMAND --help` shows what can be written" if called_wrongly else "")
        return USAGE_EXIT_CODE if called_wrongly else error.exit_code
    except typer.Abort:
        _complain("cancelled", "")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        # Whoever read us has enough; Python must not complain about it while it ends.
        sys.stdout = open("/dev/null", "w", encoding="utf-8")  # noqa: PTH123, SIM115 - lives until the end
        return 1
    except OSError as error:
        if not error.filename:
            raise
        # A file or folder that somebody named, or the machine's: no path is a mistake of ours.
        _complain(
            f"{error.filename}: {error.strerror}", "does it exist, may you use it, and is there room on the disk?"
        )
        return 1
    return code if isinstance(code, int) else 0


def shared_first(words: Sequence[str]) -> list[str]:
    """The command line with the options that all commands share moved before the command. `--` ends the search."""
    shared: list[str] = []
    rest: list[str] = []
    remaining = iter(words)
    for word in remaining:
        if word == "--":
            rest += [word, *remaining]
            break
        name, equals, value = word.partition("=")
        if value in ("true", "false") and name.startswith("--") and name not in _SHARED:
            # The other way to write a switch, as in --remote=false.
            rest.append(name if value == "true" else f"--no-{name[2:]}")
        elif name in _SHARED:
            value = value if equals else next(remaining, "")
            if not equals and not value:
                # An option without its value: left in place, for the parser to complain about.
                rest.append(word)
            else:
                shared += [_SHARED[name], value]
        else:
            rest.append(word)
    return shared + rest


def _complain(message: str, hint: str) -> None:
    print(f"Error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
