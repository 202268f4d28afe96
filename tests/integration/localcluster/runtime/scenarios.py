"""What containers can and cannot do; every function is a test, run as PID 1 of a node by `test_containers.py`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from node_process import Node

from localcluster import images
from localcluster.node import rootfs
from localcluster.node.runtime import ContainerStartError, Mount
from localcluster.node.runtime_child import MOST_PROCESSES


def names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def exists(path: str) -> bool:
    return Path(path).exists()


def link_target(path: str) -> Path | None:
    """Where a symbolic link leads, None for anything else."""
    return Path(path).readlink() if Path(path).is_symlink() else None


def has_every_user() -> bool:
    """Whether this user namespace, being root's, knows more than one user."""
    return rootfs.is_mapped(1337, Path("/proc/self/uid_map").read_text())


def shell(*lines: str) -> tuple[str, str, str]:
    return ("sh", "-c", "; ".join(lines))


async def refusal(work: object) -> str:
    try:
        await work  # type: ignore[misc]
    except ContainerStartError as error:
        return str(error)
    raise AssertionError("it was started")


async def two_pods_talk_and_see_each_others_addresses(node: Node) -> None:
    web, client = await node.network.create("web"), await node.network.create("client")
    await node.start(*images.program("echo"), network=web, env={"HOSTNAME": "echo-pod"})
    container = await node.start("sleep", "100", network=client)
    ask = (
        "python3",
        "-c",
        f"import urllib.request as r; print(r.urlopen('http://{web.address}/hello').read().decode())",
    )
    program = (sys.executable, *ask[1:])

    for _ in range(100):
        answer = await node.command(container, *program)
        if answer.status.code == 0:
            break
        await asyncio.sleep(0.02)
    said = json.loads(answer.output)

    assert said["path"] == "/hello"
    assert said["client"] == client.address != web.address
    assert said["pod"] == "echo-pod"


async def a_container_has_its_own_names(node: Node) -> None:
    result = await node.run("sh", "-c", "hostname; cat /etc/hosts /etc/resolv.conf /etc/hostname; echo $HOSTNAME")

    assert result.output.splitlines() == [
        "web-0",
        "127.0.0.1 localhost",
        "10.9.9.9 from-the-pod",
        "nameserver 10.96.0.10",
        "web-0",
        "web-0",
    ]


async def processes_of_others_are_out_of_sight(node: Node) -> None:
    await node.start("sleep", "100")
    result = await node.run("sh", "-c", "echo $$; cat /proc/[0-9]*/comm")

    assert result.output.splitlines()[0] == "1"
    assert "sleep" not in result.output


async def writes_are_discarded(node: Node) -> None:
    script = "echo x > /usr/bin/written && echo x > /etc/written && echo x > /written && cat /usr/bin/written"

    assert (await node.run("sh", "-c", script)).output == "x"
    assert (await node.run("ls", "/usr/bin/written")).status.code != 0
    assert not exists("/usr/bin/written")
    assert not exists("/etc/written")


async def volumes_may_be_anywhere(node: Node) -> None:
    source = node.folder / "volume"
    source.mkdir()
    (source / "file").write_text("content")
    targets = ("/usr/share/nginx/html", "/brand/new/path", "/var/run/secrets/x", "/tmp/x")
    mounts = [Mount(source, target, read_only=True) for target in targets]
    mounts += [
        Mount(source / "file", "/etc/single.conf", read_only=True),
        Mount(source, "/data", read_only=False),
        Mount(None, "/data/scratch", read_only=False, tmpfs=True),
    ]
    (source / "scratch").mkdir()

    files = " ".join(f"{target}/file" for target in targets)
    read = await node.run("sh", "-c", f"cat {files} /etc/single.conf", mounts=mounts)
    write = await node.run(
        "sh", "-c", "touch /tmp/x/new /etc/single.conf; echo > /data/new; echo > /data/scratch/new", mounts=mounts
    )

    assert read.output == "content" * 5
    assert write.output.count("Read-only file system") == 2
    assert names(source) == ["file", "new", "scratch"]
    assert names(source / "scratch") == []


async def a_volume_on_a_symbolic_link_stays_inside(node: Node) -> None:
    source = node.folder / "volume"
    source.mkdir()
    (source / "file").write_text("content")

    # /var/run leads to /run, by an absolute link on many hosts.
    result = await node.run("cat", "/run/inside/file", mounts=[Mount(source, "/var/run/inside", read_only=True)])

    assert result.output == "content"
    assert not exists("/run/inside")


async def a_read_only_root_still_has_writable_volumes(node: Node) -> None:
    mounts = [Mount(None, "/cache", read_only=False, tmpfs=True)]

    script = "touch /usr/x /x /tmp/x /var/tmp/x; touch /cache/x && echo > /dev/null && echo fine"
    result = await node.run("sh", "-c", script, mounts=mounts, read_only_root=True)

    assert result.output.count("Read-only file system") == 4
    assert result.output.splitlines()[-1] == "fine"


async def what_is_mounted_read_only_cannot_be_remounted(node: Node) -> None:
    source = node.folder / "volume"
    source.mkdir()
    mounts = [Mount(source, "/data", read_only=True)]

    result = await node.run(
        "sh", "-c", "mount -o remount,rw,bind /data; umount /proc/sys; touch /data/x", mounts=mounts
    )

    assert result.status.code != 0
    assert names(source) == []


async def the_kernels_settings_cannot_be_written(node: Node) -> None:
    result = await node.run(
        "sh", "-c", "echo x > /proc/sys/kernel/core_pattern; echo b > /proc/sysrq-trigger; touch /sys/x"
    )

    assert result.output.count("cannot create") == 2
    assert result.status.code != 0


async def keys_and_homes_are_out_of_sight(node: Node) -> None:
    home = os.environ["HOME"]
    state = node.folder / "state"

    result = await node.run("sh", "-c", f"ls {state}; cat {state}/secret.key; ls -A {home}/.ssh")

    assert "secret.key\n" not in result.output
    assert result.status.code != 0


async def the_machines_credentials_are_out_of_sight(node: Node) -> None:
    result = await node.run("sh", "-c", "cat /etc/shadow; ls -A /etc/ssh; true")

    assert "root:" not in result.output
    assert "key" not in result.output


async def the_running_python_is_always_there(node: Node) -> None:
    script = "import localcluster.linux, sys; print(sys.prefix)"

    assert (await node.run(sys.executable, "-c", script)).output == sys.prefix


async def a_folder_can_be_the_root(node: Node) -> None:
    root = node.folder / "image"
    root.mkdir()
    for name in ("bin", "lib", "lib64", "usr"):
        target = link_target(f"/{name}")
        if target is not None:
            (root / name).symlink_to(target)
    (root / "greeting").write_text("from the image")
    (root / "usr").mkdir(exist_ok=True)
    mounts = [Mount(Path("/usr"), "/usr", read_only=True)]

    result = await node.run("sh", "-c", "cat /greeting; ls /; echo > /written", root_folder=root, mounts=mounts)

    assert result.status.code == 0
    assert result.output.startswith("from the image")
    assert "srv" not in result.output
    assert not (root / "written").exists()


async def an_images_links_lead_where_they_lead(node: Node) -> None:
    """What is mounted below a link of the image is found behind it, and the image itself stays as it is."""
    root = node.folder / "linked"
    for name in ("usr", "etc", "run", "var"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        target = link_target(f"/{name}")
        if target is not None:
            (root / name).symlink_to(target)
    (root / "var/run").symlink_to("/run")
    secret = node.folder / "secret"
    secret.mkdir()
    (secret / "word").write_text("told")
    mounts = [Mount(Path("/usr"), "/usr", read_only=True), Mount(secret, "/var/run/secrets/own", read_only=True)]

    script = "cat /run/secrets/own/word; test -s /etc/hosts && echo; touch /etc/written /run/written; readlink /var/run"
    result = await node.run("sh", "-c", script, root_folder=root, mounts=mounts)

    assert (result.status.code, result.output) == (0, "told\n/run")
    assert [path for path in root.rglob("*") if path.name in ("written", "hosts", "secrets")] == []


async def devices_work(node: Node) -> None:
    result = await node.run(
        *shell(
            "echo x > /dev/null",
            "head -c 4 /dev/zero | wc -c",
            "head -c 4 /dev/urandom | wc -c",
            "echo out > /dev/stdout",
            "ls /dev/shm /dev/pts/ptmx",
        )
    )

    assert result.output.split() == ["4", "4", "out", "/dev/pts/ptmx", "/dev/shm:"]


async def descriptors_and_environment_are_clean(node: Node) -> None:
    result = await node.run("sh", "-c", "ls /proc/self/fd; env | sort; umask; ulimit -c > /dev/null", env={"A": "b"})
    lines = result.output.splitlines()

    assert lines[:4] == ["0", "1", "2", "3"]  # 3 is the folder that ls reads
    assert lines[-1] == "0022"
    assert {line.split("=")[0] for line in lines[4:-1]} - {"TAR_OPTIONS"} == {"A", "HOME", "HOSTNAME", "PATH", "PWD"}


async def archives_with_other_owners_are_unpacked_by_an_only_user(node: Node) -> None:
    pack = "cd /tmp && echo kept > sent && tar --owner=65534 --group=65534 -cf sent.tar sent && rm sent"

    result = await node.run("sh", "-c", f"{pack} && tar -xmf sent.tar 2>&1 && cat sent")

    assert result.output.split() == ["kept"]


async def tools_stand_in_for_what_the_host_lacks(node: Node) -> None:
    assert (await node.run("a-tool")).output == "tool"


async def ordinary_users_are_honoured_where_they_exist(node: Node) -> None:
    result = await node.run(
        "sh", "-c", "id -u; id -g; echo x > /dev/stdout", run_as_user=1337, run_as_group=1337, supplemental_groups=(7,)
    )

    assert result.output.split() == (["1337", "1337", "x"] if has_every_user() else ["0", "0", "x"])


async def every_user_may_mark_packets_and_use_low_ports(node: Node) -> None:
    script = (
        "import socket; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1337);"
        "s.bind(('', 80)); print('ok')"
    )

    for user in (None, 1337):
        assert (await node.run(sys.executable, "-c", script, run_as_user=user)).output == "ok"


async def a_command_has_streams_and_an_exit_code(node: Node) -> None:
    container = await node.start("sleep", "100", env={"A": "b"}, working_dir="/opt")

    process = await node.runtime.exec(
        container, ("sh", "-c", "cat; echo $A $B; pwd; echo bad >&2; exit 7"), {"B": "c"}, stdin=True
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b"typed\n")
    process.stdin.close()

    assert await process.stdout.read() == b"typed\nb c\n/opt\n"
    assert await process.stderr.read() == b"bad\n"
    assert (await process.wait()).code == 7
    process.close()


async def a_command_with_a_terminal_has_its_size(node: Node) -> None:
    container = await node.start("sleep", "100")

    process = await node.runtime.exec(
        container, ("sh", "-c", "read line; tty; stty size; exit 3"), tty=True, stdin=True
    )
    process.resize(40, 100)
    assert process.stdin is not None
    assert process.stderr is None
    process.stdin.write(b"go\n")

    assert await process.stdout.read() == b"go\r\n/dev/pts/0\r\n40 100\r\n"
    assert (await process.wait()).code == 3
    process.close()


async def a_command_is_killed_with_its_container(node: Node) -> None:
    container = await node.start("sleep", "100")
    process = await node.runtime.exec(container, ("sleep", "100"))

    container.kill(signal.SIGKILL)

    assert (await container.wait()).code == 137
    assert (await process.wait()).code == 137
    assert await refusal(node.runtime.exec(container, ("true",))) == "container main is not running"
    process.close()


async def a_container_with_a_terminal_can_be_attached_to(node: Node) -> None:
    log = node.folder / "tty.log"
    container = await node.start("sh", "-c", "read line; echo got $line", tty=True, stdin=True, log_path=log)
    output = container.output()
    heard = asyncio.ensure_future(_joined(output))
    await asyncio.sleep(0)
    assert container.stdin is not None
    container.stdin.write(b"hello\n")

    assert (await container.wait()).code == 0
    assert await heard == b"hello\r\ngot hello\r\n"
    assert "got hello" in log.read_text()


async def _joined(output: object) -> bytes:
    return b"".join([chunk async for _, chunk in output])  # type: ignore[attr-defined]


async def what_cannot_start_says_why(node: Node) -> None:
    source = node.folder / "gone"

    assert await refusal(node.start("nonsense")) == 'exec: "nonsense": executable file not found in $PATH'
    assert await refusal(node.start("/no/sense")) == 'exec: "/no/sense": no such file or directory'
    assert await refusal(node.start("/etc/hosts")) == 'exec: "/etc/hosts": permission denied'
    missing = await refusal(node.start("true", mounts=[Mount(source, "/x", read_only=True)]))
    assert missing == f"cannot make the container's root: clone the mount {source}: No such file or directory"
    sealed = await refusal(
        node.start(
            "true",
            mounts=[
                Mount(node.folder, "/sealed", read_only=True),
                Mount(node.folder, "/sealed/below", read_only=True),
            ],
        )
    )
    assert (
        sealed == "cannot make the container's root: cannot make the mount point /sealed/below: Read-only file system"
    )


async def ends_are_reported(node: Node) -> None:
    assert (await node.run("sh", "-c", "exit 3")).status.code == 3
    container = await node.start(*shell("trap 'exit 5' TERM", "echo ready", "while :; do sleep 0.01; done"))
    async for _, chunk in container.output():
        assert chunk == b"ready\n"
        break

    container.kill(signal.SIGTERM)

    status = await container.wait()
    assert (status.code, status.signal) == (5, None)
    assert await container.wait() == status


async def port_forward_reaches_the_pods_loopback(node: Node) -> None:
    pod = await node.network.create("pod")
    server = (
        "import socket; s = socket.create_server(('127.0.0.1', 7777)); print('up', flush=True);"
        "c, _ = s.accept(); c.sendall(c.recv(10)); c.close()"
    )
    container = await node.start(sys.executable, "-c", server, network=pod)
    async for _, chunk in container.output():
        assert chunk == b"up\n"
        break

    reader, writer = await node.runtime.connect(pod, 7777)
    writer.write(b"ping")
    assert await reader.read() == b"ping"
    writer.close()
    await writer.wait_closed()

    try:
        await node.runtime.connect(pod, 7778)
    except ConnectionRefusedError:
        return
    raise AssertionError("something listens on 7778")


async def networks_come_and_go(node: Node) -> None:
    first = await node.network.create("a")
    assert await node.network.create("a") is first
    links = names("/sys/class/net")
    await node.network.delete("a")
    await node.network.delete("a")
    second = await node.network.create("b")

    assert second.address != first.address
    assert first.interface in links
    assert first.interface not in names("/sys/class/net")


async def a_container_that_forks_without_end_finds_its_own(node: Node) -> None:
    """On kernels that can limit one PID namespace: elsewhere this only shows that nothing breaks."""
    neighbour = await node.start("sleep", "100")
    script = (
        "import os, time\n"
        "count = 0\n"
        "try:\n"
        f"    while count < {2 * MOST_PROCESSES}:\n"
        "        if os.fork() == 0: time.sleep(100)\n"
        "        count += 1\n"
        "except BlockingIOError as error: print(count, error, flush=True)\n"
        "time.sleep(100)\n"
    )
    can_limit = tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 14)
    if can_limit:
        greedy = await node.start(sys.executable, "-I", "-S", "-c", script)
        async for _, chunk in greedy.output():
            count, _, told = chunk.decode().partition(" ")
            assert int(count) < MOST_PROCESSES
            assert "Resource temporarily unavailable" in told
            break
    assert (await node.command(neighbour, "sh", "-c", "echo fine")).output.strip() == "fine"
    if can_limit:
        limit = await node.run("cat", "/proc/sys/kernel/pid_max")
        assert int(limit.output) == MOST_PROCESSES
        greedy.kill(signal.SIGKILL)
        await greedy.wait()


async def orphans_are_reaped(node: Node) -> None:
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    for _ in range(200):
        await asyncio.sleep(0.01)
        if [name for name in names("/proc") if name.isdigit()] == ["1"]:
            return
    raise AssertionError("zombies are left")


async def nothing_leaks(node: Node) -> None:
    pod = await node.network.create("pod")
    await node.run("true", network=pod)
    before = names("/proc/self/fd")
    for _ in range(5):
        assert (await node.run("true", network=pod)).status.code == 0
        await refusal(node.start("nonsense", network=pod))
        container = await node.start("sleep", "100", network=pod, tty=True, stdin=True)
        await node.command(container, "true", tty=True, stdin=True)
        await node.command(container, "true", stdin=True)
        container.kill(signal.SIGKILL)
        await container.wait()
    await asyncio.sleep(0.05)

    assert len(names("/proc/self/fd")) == len(before)


async def a_mesh_may_write_packet_rules_in_its_pod_alone(node: Node) -> None:
    script = (
        "from pyroute2.nftables.main import NFTables\n"
        "with NFTables(nfgen_family=1) as rules:\n"
        "    rules.table('add', name='of_the_pod')\n"
        "    print([table.get_attr('NFTA_TABLE_NAME') for table in rules.get_tables()])"
    )
    pod = await node.network.create("pod")

    assert (await node.run(sys.executable, "-c", script, network=pod)).output == "['of_the_pod']"
    elsewhere = script.replace("'of_the_pod'", "'elsewhere'")
    assert (await node.run(sys.executable, "-c", elsewhere, host_network=True)).output == "['elsewhere']"


async def folders_that_hold_mounts_are_put_together(node: Node) -> None:
    """Run with mounts in /etc, /usr and /var/lib, as hosts have them that are containers or that run some."""
    source = node.folder / "volume"
    source.mkdir()
    (source / "file").write_text("content")
    targets = ("/etc/brand/new", "/usr/share/nginx/html", "/var/lib/x/y")
    mounts = [Mount(source, target, read_only=True) for target in targets]

    files = " ".join(f"{target}/file" for target in targets)
    result = await node.run("sh", "-c", f"cat {files} /etc/hosts; grep -c ^root: /etc/passwd", mounts=mounts)

    assert node.runtime.layout.composed == ("etc", "usr", "var")
    assert result.output == f"{'content' * 3}127.0.0.1 localhost\n10.9.9.9 from-the-pod\n1"
