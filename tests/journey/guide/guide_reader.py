"""Who reads the guide: types its blocks into a terminal, with the words filled in that the guide leaves open."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from guide_text import Block
from journey_shell import Journey

_PROMPT_SECONDS = 60


@dataclass
class Typed:
    """One command and what it left."""

    command: str
    code: int
    stdout: str
    stderr: str


@dataclass
class Reader:
    """A folder, a terminal, and the workload that `<pod-name>` and `<namespace>` stand for at this point."""

    shell: Journey
    folder: Path
    namespace: str = "production"
    application: str = "api-service"
    typed: dict[str, list[Typed]] = field(default_factory=dict)

    def write(self, block: Block) -> Path:
        """A YAML block into the file that it names."""
        path = self.folder / block.file
        path.write_text(block.text)
        return path

    def run(self, command: str, seconds: float = _PROMPT_SECONDS) -> Typed:
        """One command as the guide has it, in bash."""
        words = ["bash", "-o", "pipefail", "-c", self.filled_in(command)]
        done = subprocess.run(
            words,
            env=self.shell.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Typed(command, done.returncode, done.stdout, done.stderr)

    def succeed(self, command: str) -> Typed:
        """One command, which has to end well."""
        done = self.run(command)
        assert done.code == 0, f"{done.command}\nexit code {done.code}\n{done.stdout}{done.stderr}"
        return done

    def filled_in(self, command: str) -> str:
        """The command with our program's name, and a real pod in the place of `<pod-name>`."""
        text = command.replace("istioctl", "mutua")
        if "<pod-name>" in text:
            text = text.replace("<pod-name>", self.shell.pod(self.application, self.namespace))
        return text.replace("<namespace>", self.namespace)

    def apply(self, block: Block) -> Typed:
        """Writes the file and applies it."""
        return self.succeed(f"kubectl apply -f {self.write(block).name}")

    def settled(self, *namespaces: str) -> None:
        """Waits until every pod of these namespaces is ready."""
        for namespace in namespaces:
            self.succeed(f"kubectl wait --for=condition=Available deployment --all -n {namespace} --timeout=60s")
            self.succeed(f"kubectl wait --for=condition=Ready pod --all -n {namespace} --timeout=60s")

    def open_dashboard(self, command: str, visit: Callable[[str], None]) -> None:
        """Types a command that stays in the foreground, visits the address that it prints, and interrupts it."""
        environment = self.shell.environment | {"BROWSER": "true"}
        process = subprocess.Popen(
            ["bash", "-c", f"exec {self.filled_in(command)}"],
            env=environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        try:
            address = re.match(r"http://localhost:\d+\S*", process.stdout.readline())
            assert address, "no address was printed"
            visit(address[0])
        finally:
            os.kill(process.pid, signal.SIGINT)
            process.wait(timeout=10)
            process.stdout.close()


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Waits for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true after {seconds} s"
        time.sleep(0.1)
