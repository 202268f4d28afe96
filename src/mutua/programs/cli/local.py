"""Local clusters with the mesh in them: up, down, status."""

import asyncio
import shlex
import sys
import time
from typing import Annotated

import typer

from localcluster import inside, lifecycle
from localcluster.lifecycle import ClusterError, ClusterStatus
from localcluster.paths import ClusterPaths
from mutua.errors import InvalidInputError, MutuaError
from mutua.reports.table import render

DEFAULT_NAME = "default"

Name = Annotated[str, typer.Option("--name", help="Which local cluster.")]


def up(
    name: Name = DEFAULT_NAME,
    set_: Annotated[list[str] | None, typer.Option("--set", "-s", help="Installation setting, path=value.")] = None,
    audit_log: Annotated[
        bool, typer.Option("--audit-log", help="Log who asks what of the API (audit.k8s.io/v1).")
    ] = False,
) -> None:
    """Start a local cluster with the mesh in it; print how to use it.

    A cluster that is running already stays as it is; with --set the mesh in it is brought to what is asked for.
    """
    from mutua.programs import local_mesh

    started = time.monotonic()
    try:
        cluster = local_mesh.start(name, say, audit_log=audit_log)
        asyncio.run(local_mesh.install_into(cluster, set_ or (), say))
    except ClusterError as error:
        raise as_mutua_error(error) from error
    except KeyboardInterrupt:
        say(f"Interrupted: cluster {name} may be running in part; `mutua up --name {name}` finishes it,")
        say(f"`mutua down --name {name}` removes it")
        raise
    if audit_log:
        say(f"✔ The audit log is {ClusterPaths(cluster.directory).audit_log}; remove it to end it")
    say(f"✔ Cluster {name} is ready ({time.monotonic() - started:.1f} s)")
    print(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")


def down(
    name: Name = DEFAULT_NAME,
    keep_state: Annotated[bool, typer.Option("--keep-state", help="Keep the objects for the next `up`.")] = False,
) -> None:
    """Stop a local cluster and remove everything of it."""
    try:
        there_was = lifecycle.down(name, keep_state=keep_state)
    except ClusterError as error:
        raise as_mutua_error(error) from error
    say(f"✔ Cluster {name} is stopped" if there_was else f"No cluster {name} is running")


_HEADER = ("NAME", "STATE", "NODES", "PODS", "MEMORY", "REQUESTS", "API", "PID", "KUBECONFIG")
_SHORT = 7


def status(
    name: Annotated[str, typer.Option("--name", help="Only this local cluster.")] = "",
    output: Annotated[
        str, typer.Option("--output", "-o", help="wide: also the first process and the kubeconfig.")
    ] = "",
) -> None:
    """Show the local clusters. Exits with 1 if the one asked for is not running."""
    if output not in ("", "wide"):
        raise InvalidInputError(f'output format "{output}" not supported', "choose wide")
    try:
        found = [lifecycle.status(name)] if name else lifecycle.clusters()
    except ClusterError as error:
        raise as_mutua_error(error) from error
    if not found:
        say("No local cluster. Start one with: mutua up")
        return
    shown = len(_HEADER) if output else _SHORT
    print(render(_HEADER[:shown], [_row(item)[:shown] for item in found], padding=2), end="")
    if name and found[0].state != "running":
        raise typer.Exit(1)


def as_mutua_error(error: ClusterError) -> MutuaError:
    """The cluster's complaint, as ours."""
    return MutuaError(str(error), error.hint)


def say(line: str) -> None:
    """Progress goes to stderr; stdout is for what a script reads."""
    print(line, file=sys.stderr, flush=True)


def _row(item: ClusterStatus) -> tuple[str, ...]:
    cluster = item.cluster
    if cluster is None:
        return (item.name, item.state, *("-",) * (len(_HEADER) - 2))
    found = inside.look(cluster)
    nodes = pods = memory = rate = "-"
    if found is not None:
        nodes, pods = f"{found.ready_nodes}/{found.nodes}", f"{found.ready_pods}/{found.pods}"
        memory, rate = f"{found.memory_bytes >> 20}Mi", f"{found.requests_per_second:.1f}/s"
    api = f"https://127.0.0.1:{cluster.api_port}"
    return (item.name, item.state, nodes, pods, memory, rate, api, str(cluster.pid), str(cluster.kubeconfig))
