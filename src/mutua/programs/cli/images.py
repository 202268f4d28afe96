"""The images that a local cluster knows: listed, added, removed."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from localcluster import images
from localcluster.images import Image, ImagesError
from localcluster.paths import ClusterPathError, ClusterPaths, cluster_paths
from mutua.errors import MutuaError
from mutua.programs.cli.local import DEFAULT_NAME, Name, say
from mutua.reports.table import render

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="The images that a local cluster knows; nothing is pulled.",
)


@app.command(name="list")
def list_(name: Name = DEFAULT_NAME) -> None:
    """Show every image with what it runs."""
    paths = _paths(name)
    try:
        own = images.added(paths)
    except ImagesError as error:
        raise MutuaError(str(error), f"mend or remove {paths.images}") from error
    rows = [
        (reference, "added" if reference in own else "built in", _text(image))
        for reference, image in sorted((images.builtin() | own).items())
    ]
    print(render(("IMAGE", "SOURCE", "RUNS"), rows), end="")


@app.command()
def add(
    image: Annotated[str, typer.Argument(help="Its name, as pods write it; the tag does not matter.")],
    command: Annotated[list[str] | None, typer.Argument(help="What it runs: a program and its arguments.")] = None,
    root: Annotated[Path | None, typer.Option("--root", help="Its root folder, such as an unpacked image.")] = None,
    entrypoint: Annotated[bool, typer.Option("--entrypoint", help="A pod's args follow the command.")] = False,
    name: Name = DEFAULT_NAME,
) -> None:
    """Say what an image runs. Pods that wait for it start; those that run keep what they have."""
    if not command and root is None:
        raise MutuaError(f"what does image {image} run?", f"mutua images add {image} -- PROGRAM ARGUMENTS")
    if root is not None and not root.is_dir():
        raise MutuaError(f"--root {root} is not a folder", "unpack the image first, and name the folder with its bin")
    found = Image(tuple(command or ()), root_folder=None if root is None else root.absolute(), entrypoint=entrypoint)
    try:
        images.store(_paths(name), {image: found})
    except (ImagesError, OSError) as error:
        raise MutuaError(f"image {image} was not added: {error}", "") from error
    say(f"✔ Image {images.name_of(image)} runs {_text(found)} in cluster {name}")


@app.command()
def remove(
    image: Annotated[str, typer.Argument(help="Its name; built-in images stay.")], name: Name = DEFAULT_NAME
) -> None:
    """Forget an image that was added."""
    try:
        there_was = images.remove(_paths(name), image)
    except (ImagesError, OSError) as error:
        raise MutuaError(f"image {image} was not removed: {error}", "") from error
    if not there_was:
        raise MutuaError(f"no image {images.name_of(image)} was added to cluster {name}", "see: mutua images list")
    say(f"✔ Image {images.name_of(image)} is removed from cluster {name}")


def _paths(name: str) -> ClusterPaths:
    try:
        paths = cluster_paths(name)
    except ClusterPathError as error:
        raise MutuaError(str(error), error.hint) from error
    if not paths.directory.is_dir():
        raise MutuaError(f"there is no cluster {name}", f"start it with: mutua up --name {name}")
    return paths


def _text(image: Image) -> str:
    command = shlex.join(image.command) or "its pod's command"
    return command if image.root_folder is None else f"{command} (root {image.root_folder})"
