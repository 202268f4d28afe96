"""Which program stands behind an image name: built-in names, and those of images.json."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcluster.paths import ClusterPaths, write_atomically

# What a reference may leave out (distribution/reference: familiar names).
_DEFAULT_REGISTRIES = ("docker.io/", "index.docker.io/", "registry-1.docker.io/")
_DEFAULT_FOLDER = "library/"

# The PATH of containers whose image or pod sets none (Docker's default).
CONTAINER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SHELL = ("sh",)
_CURL = ("curl",)
_WEB_ROOT = "/usr/share/nginx/html"


class ImagesError(Exception):
    """images.json cannot be used; the text names the entry and what is wrong with it."""


@dataclass(frozen=True)
class Image:
    """How to run an image: the command line if the pod gives none, environment, and the root (None: the host's).

    `arguments_follow` says whether a pod's `args` are appended to `command` (an entrypoint, as curl's image has) or
    replace it (a default command, as busybox's).
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    root_folder: Path | None = None
    entrypoint: bool = False

    def argv(self, command: tuple[str, ...], args: tuple[str, ...]) -> tuple[str, ...]:
        """The command line of a container with these `command` and `args` (Kubernetes' rules for both)."""
        if command:
            return command + args
        if not args:
            return self.command
        return self.command + args if self.entrypoint else args


@dataclass(frozen=True)
class UnknownImage:
    """An image that no table knows; `message` is fit for the pod's status and says how to add it."""

    reference: str
    message: str


def name_of(reference: str) -> str:
    """The name that tables hold: no default registry or folder, no tag, no digest."""
    name = reference.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    name = folder + slash + last.partition(":")[0]
    for registry in _DEFAULT_REGISTRIES:
        name = name.removeprefix(registry)
    return name.removeprefix(_DEFAULT_FOLDER)


def resolve(reference: str, table: Mapping[str, Image]) -> Image | UnknownImage:
    """The image behind a reference as pods write it (`docker.io/library/nginx:1.27`)."""
    name = name_of(reference)
    image = table.get(name)
    if image is not None:
        return image
    return UnknownImage(
        reference,
        f'no image "{name}" on this node: nothing is pulled here. Give the container a command, which then runs from '
        f'this machine, or add the image to the cluster\'s images.json: {{"{name}": {{"command": ["program"]}}}}',
    )


def find_program(name: str) -> str | None:
    """Where containers find a program of the host, None if they do not."""
    return shutil.which(name, path=CONTAINER_PATH)


def builtin(which: Callable[[str], str | None] = find_program) -> dict[str, Image]:
    """The table of well-known names. `which` finds a program of the host, or None."""
    configuration = str(Path(__file__).parent / "builtin" / "nginx.conf")
    web = Image(("nginx", "-c", configuration) if which("nginx") else program("web", "--root", _WEB_ROOT))
    echo = Image(program("echo"), entrypoint=True)
    shell = Image(_SHELL)
    curl = Image(_CURL, entrypoint=True)
    pause = Image(program("pause"))
    return {
        "nginx": web,
        "httpd": Image(program("web", "--root", "/usr/local/apache2/htdocs")),
        "curlimages/curl": curl,
        "alpine/curl": curl,
        "busybox": shell,
        "alpine": shell,
        "ubuntu": shell,
        "debian": shell,
        "python": Image((sys.executable,)),
        "registry.k8s.io/pause": pause,
        "k8s.gcr.io/pause": pause,
        "echo": echo,
        "kennethreitz/httpbin": echo,
        "ealen/echo-server": echo,
    }


def program(name: str, *arguments: str) -> tuple[str, ...]:
    """The command line of a built-in program; without site and environment, which halves the time to start."""
    path = Path(__file__).parent / "builtin" / f"{name}.py"
    return (sys.executable, "-I", "-S", str(path), *arguments)


def load(paths: ClusterPaths) -> dict[str, Image]:
    """The built-in table with the entries of the cluster's images.json on top. Raises ImagesError."""
    return builtin() | added(paths)


def added(paths: ClusterPaths) -> dict[str, Image]:
    """The entries of the cluster's images.json alone. Raises ImagesError."""
    return {name_of(name): _decode(name, entry) for name, entry in _entries(paths).items()}


def remove(paths: ClusterPaths, reference: str) -> bool:
    """Take an image out of images.json; False if it is not in there. Raises ImagesError."""
    entries = _entries(paths)
    kept = {name: entry for name, entry in entries.items() if name_of(name) != name_of(reference)}
    if kept == entries:
        return False
    write_atomically(paths.images, json.dumps(kept, indent=2).encode() + b"\n")
    return True


def _entries(paths: ClusterPaths) -> dict[str, Any]:
    try:
        content = paths.images.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        entries = json.loads(content)
    except ValueError as error:
        raise ImagesError(f"{paths.images} is not JSON: {error}") from error
    if not isinstance(entries, dict):
        raise ImagesError(f"{paths.images} must hold an object: image name to how it runs")
    return entries


def store(paths: ClusterPaths, images: Mapping[str, Image]) -> None:
    """Write images.json: `images` replace the entries of the same names, others stay. Raises ImagesError."""
    entries = _entries(paths)
    entries |= {name_of(name): _encode(image) for name, image in images.items()}
    write_atomically(paths.images, json.dumps(entries, indent=2).encode() + b"\n")


def _encode(image: Image) -> dict[str, Any]:
    entry: dict[str, Any] = {"command": list(image.command), "env": dict(image.env)}
    if image.root_folder is not None:
        entry["rootFolder"] = str(image.root_folder)
    if image.entrypoint:
        entry["entrypoint"] = True
    return entry


def _decode(name: str, entry: Any) -> Image:
    if not isinstance(entry, dict):
        raise ImagesError(f'image "{name}": must be an object with "command"')
    unknown = entry.keys() - {"command", "env", "rootFolder", "entrypoint"}
    if unknown:
        raise ImagesError(f'image "{name}": unknown field "{min(unknown)}"')
    command, env, root = entry.get("command", []), entry.get("env", {}), entry.get("rootFolder")
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise ImagesError(f'image "{name}": "command" must be a list of strings')
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise ImagesError(f'image "{name}": "env" must map names to strings')
    if root is not None and not (isinstance(root, str) and Path(root).is_absolute()):
        raise ImagesError(f'image "{name}": "rootFolder" must be an absolute path')
    return Image(tuple(command), dict(env), None if root is None else Path(root), bool(entry.get("entrypoint", False)))
