"""`mutua completion`: what makes a shell complete commands, options and the names of pods."""

import asyncio
import os
from typing import Annotated, Any

import typer

from mutua.errors import InvalidInputError, MutuaError
from mutua.programs.cli.main import COMPLETION_VARIABLE, shared_first

SHELLS = ("bash", "zsh", "fish")
_PATIENCE_SECONDS = 2.0


def completion(shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", show_default=False)]) -> None:
    """Print the script that teaches a shell to complete mutua's words."""
    if shell not in SHELLS:
        raise InvalidInputError(f'there is no completion for "{shell}"', f"choose one of {', '.join(SHELLS)}")
    from typer._completion_shared import get_completion_script

    print(get_completion_script(prog_name="mutua", complete_var=COMPLETION_VARIABLE, shell=shell))


def enable() -> None:
    """Makes the parser answer a shell's questions, in a process that a completion script has started."""
    from typer._completion_classes import completion_init

    completion_init()


def pods(context: typer.Context, incomplete: str) -> list[str]:
    """Names of pods that begin so; none if the cluster does not answer at once."""
    try:
        return asyncio.run(_names(context, incomplete))
    except (MutuaError, TimeoutError, OSError):
        return []


Pod = Annotated[str, typer.Argument(metavar="[TYPE/]NAME[.NAMESPACE]", show_default=False, autocompletion=pods)]
"""The pod that a command is about; `common.find_pod` finds it."""


async def _names(context: typer.Context, incomplete: str) -> list[str]:
    from mutua.system.kube import KubeClient
    from mutua.system.kube_resources import PODS

    said: dict[str, Any] = _said()
    async with (
        asyncio.timeout(_PATIENCE_SECONDS),
        KubeClient.connect(said.get("--kubeconfig", ""), said.get("--context", "")) as kube,
    ):
        found = await kube.list(PODS, said.get("--namespace") or kube.namespace)
    names = sorted(str(pod["metadata"]["name"]) for pod in found)
    return [name for name in names if name.startswith(incomplete)]


def _said() -> dict[str, str]:
    """The shared options on the line so far; the shells' scripts hand the line over in one of two variables."""
    line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
    words = shared_first(line.split()[1:])
    found: dict[str, str] = {}
    while len(words) > 1 and words[0].startswith("--"):
        found[words[0]] = words[1]
        words = words[2:]
    return found
