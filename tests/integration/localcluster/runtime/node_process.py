"""Runs a scenario as a node's PID 1, in namespaces of its own: `node_process.py FILE FUNCTION FOLDER`."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster import linux, namespaces
from localcluster.node import rootfs
from localcluster.node.network import BridgeNetwork
from localcluster.node.processes import Processes
from localcluster.node.runtime import Container, ContainerSpec, ExitStatus, Mount, PodNetwork
from localcluster.node.runtime_linux import LinuxRuntime

ETC = {
    "/etc/hosts": "127.0.0.1 localhost\n10.9.9.9 from-the-pod\n",
    "/etc/resolv.conf": "nameserver 10.96.0.10\n",
    "/etc/hostname": "web-0\n",
}


@dataclass(frozen=True)
class Result:
    """How a container or command ended, and what it said."""

    status: ExitStatus
    output: str


@dataclass(frozen=True)
class Node:
    """A node without a kubelet."""

    runtime: LinuxRuntime
    network: BridgeNetwork
    folder: Path

    async def start(
        self,
        *argv: str,
        network: PodNetwork | None = None,
        mounts: Iterable[Mount] = (),
        env: Mapping[str, str] | None = None,
        **options: object,
    ) -> Container:
        """Start a container, in a pod of its own if no network is given."""
        spec = ContainerSpec(
            pod_uid="pod",
            name="main",
            argv=argv,
            env=env or {},
            mounts=tuple(mounts),
            hostname="web-0",
            files=ETC,
            **options,  # type: ignore[arg-type]
        )
        return await self.runtime.start(spec, network or await self.network.create("pod"))

    async def run(self, *argv: str, **options: object) -> Result:
        """Run a container to its end; its output is what its log holds."""
        log = self.folder / "run.log"
        log.unlink(missing_ok=True)
        container = await self.start(*argv, log_path=log, **options)  # type: ignore[arg-type]
        status = await container.wait()
        return Result(status, "\n".join(line.split(" ", 3)[3] for line in log.read_text().splitlines()))

    async def command(self, container: Container, *argv: str, **options: bool) -> Result:
        """Run a command inside a container to its end."""
        process = await self.runtime.exec(container, argv, **options)
        output = await process.stdout.read()
        status = await process.wait()
        process.close()
        return Result(status, output.decode())


def run(file: str, function: str, folder: Path) -> None:
    """Run a scenario in a process of its own; AssertionError with what it said if it fails."""
    outcome = subprocess.run(
        [sys.executable, __file__, file, function, str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert outcome.returncode == 0, f"{outcome.stdout}\n{outcome.stderr}"


async def _scenario(work: Callable[[Node], Awaitable[None]], folder: Path) -> None:
    processes = Processes()
    processes.start()
    network = BridgeNetwork()
    await network.setup_node()
    staging = folder / "staging"
    staging.mkdir()
    state = folder / "state"
    state.mkdir()
    (state / "secret.key").write_text("secret")
    runtime = LinuxRuntime(processes, rootfs.host_layout(state), staging, {"a-tool": "#!/bin/sh\necho tool\n"})
    await work(Node(runtime, network, folder))


def hold_mounts() -> None:
    """Mount something in /etc, /usr and /var/lib, in namespaces of our own: the node, further in, cannot undo it."""
    user, group = os.getuid(), os.getgid()
    linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    linux.bind("/etc/passwd", "/etc/passwd", read_only=False)
    linux.bind("/usr/lib", "/usr/lib", read_only=False)
    held = next(entry.path for entry in os.scandir("/var/lib") if entry.is_dir(follow_symlinks=False))
    linux.bind(held, held, read_only=False)


def main() -> None:
    """Be the node."""
    file, function, folder = sys.argv[1:]
    if "hold_mounts" in function:
        hold_mounts()
    namespaces.enter()
    pid = os.fork()
    if pid:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    code = 1
    try:
        namespaces.prepare_root()
        specification = importlib.util.spec_from_file_location("scenarios", file)
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        asyncio.run(_scenario(getattr(module, function), Path(folder)))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
