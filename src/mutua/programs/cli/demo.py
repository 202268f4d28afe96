"""The command `demo`: everything from nothing, and proof of what it claims."""

import asyncio
import contextlib
import os
from typing import Annotated

import typer

from localcluster import lifecycle
from localcluster.lifecycle import Cluster, ClusterError
from mutua.errors import MutuaError
from mutua.programs import local_mesh
from mutua.programs.cli.local import as_mutua_error
from mutua.programs.demo import proofs, setting
from mutua.programs.demo.narrator import Narrator
from mutua.programs.demo.stage import Stage
from mutua.programs.wire import Wire
from mutua.system.kube import KubeClient


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster running.")] = False,
    name: Annotated[str, typer.Option("--name", help="Name of the local cluster that is made for it.")] = "",
) -> None:
    """Start a cluster and a mesh, run the guide's applications, and prove what mutual TLS does to their traffic."""
    chosen = name or f"demo-{os.getpid()}"
    if lifecycle.status(chosen).state != "stopped":
        raise MutuaError(
            f"cluster {chosen} is running already",
            f"stop it with `mutua down --name {chosen}`, or choose another --name",
        )
    narrator = Narrator()
    held = False
    try:
        cluster = local_mesh.start(chosen, narrator.note)
        narrator.step("local cluster is up")
        held = asyncio.run(_play(cluster, narrator))
    except ClusterError as error:
        raise as_mutua_error(error) from error
    finally:
        if not keep:
            with contextlib.suppress(ClusterError):
                lifecycle.down(chosen)
    if keep:
        print(f"\nIt goes on running; stop it with: mutua down --name {chosen}\nexport KUBECONFIG={cluster.kubeconfig}")
    raise typer.Exit(0 if held else 1)


async def _play(cluster: Cluster, narrator: Narrator) -> bool:
    await local_mesh.install_into(cluster, ("profile=demo",), narrator.note)
    narrator.step("mesh is installed")
    async with KubeClient.connect(str(cluster.kubeconfig)) as kube:
        stage = Stage(kube, narrator)
        await setting.prepare(stage)
        for proof in proofs.ALL:
            await proof(stage, Wire(cluster))
    return narrator.summary()
