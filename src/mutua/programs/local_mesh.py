"""A local cluster with the mesh in it: the two packages meet here and in the commands that call this."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from localcluster import lifecycle
from localcluster.images import Image
from localcluster.lifecycle import Cluster
from mutua.errors import NotFoundError
from mutua.installation import values
from mutua.programs.cli import installer
from mutua.programs.cli.version import client_version
from mutua.system.kube import KubeClient

NAMESPACE = "istio-system"


def start(name: str, say: Callable[[str], None], *, audit_log: bool = False) -> Cluster:
    """The running cluster of that name, which knows the mesh's images. Raises ClusterError."""
    return lifecycle.up(name, images=images(), audit_log=audit_log, progress=say)


async def install_into(cluster: Cluster, settings: Sequence[str], say: Callable[[str], None]) -> None:
    """Installs the mesh by the same manifests as anywhere, and waits until it is ready. Raises MutuaError.

    Without settings, a mesh that is there already is brought back to what it was installed as.
    """
    async with KubeClient.connect(str(cluster.kubeconfig)) as kube:
        if not settings:
            with contextlib.suppress(NotFoundError):
                await installer.install(kube, await installer.installed(kube, NAMESPACE), lambda _: None)
                return
        for path in values.unknown(values.chosen((), settings)):
            say(f"Warning: nothing reads the setting {path}; it is misspelt, or not supported")
        platform = values.platform_of(await kube.server_version())
        wanted = values.wanted(values.chosen((), settings), client_version(), platform)
        await installer.install(kube, wanted, say)


def images() -> dict[str, Image]:
    """The mesh's own images: this very installation, run by the Python that runs us."""
    folder = Path(sys.executable).parent
    environment = {"PATH": f"{folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    programs = {"mutua/pilot": "mutua.programs.control_plane.main", "mutua/proxyv2": "mutua.programs.agent"}
    return {
        image: Image((sys.executable, "-I", "-m", module), environment, entrypoint=True)
        for image, module in programs.items()
    }
