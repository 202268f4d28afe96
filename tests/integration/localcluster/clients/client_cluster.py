"""What the tests of other people's clients share: the mark that makes a row of the table, and running programs."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


def proves(client: str, what: str) -> pytest.MarkDecorator:
    """This test proves a row of the client matrix in docs/local-cluster.md (see matrix.py)."""
    return pytest.mark.proves(client, what)


@dataclass(frozen=True)
class ClientCluster:
    """A running local cluster, as clients get to know it: by its kubeconfig."""

    kubeconfig: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a client program: nothing of the machine's own Kubernetes configuration."""
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.folder / "cache"),
            "HELM_CACHE_HOME": str(self.folder / "helm-cache"),
            "HELM_CONFIG_HOME": str(self.folder / "helm-config"),
            "HELM_DATA_HOME": str(self.folder / "helm-data"),
        }

    def run(
        self, program: Path, *arguments: str, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a client, whatever comes of it."""
        return subprocess.run(
            [str(program), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment | environment,
            timeout=90,
            check=False,
        )

    def output(self, program: Path, *arguments: str, stdin: str = "", **environment: str) -> str:
        """What a client prints; it has to succeed."""
        done = self.run(program, *arguments, stdin=stdin, **environment)
        assert done.returncode == 0, f"{program.name} {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout


class Kubectl:
    """One kubectl in a namespace of its own."""

    def __init__(self, cluster: ClientCluster, program: Path, namespace: str) -> None:
        self.cluster = cluster
        self.program = program
        self.namespace = namespace

    def __call__(self, *words: str, stdin: str = "", **environment: str) -> str:
        """What it prints; it has to succeed."""
        return self.cluster.output(self.program, "-n", self.namespace, *words, stdin=stdin, **environment)

    def refused(self, *words: str, stdin: str = "") -> str:
        """What it prints when it fails, which it has to; `diff` fails where there is a difference."""
        done = self.cluster.run(self.program, "-n", self.namespace, *words, stdin=stdin)
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr

    def json(self, *words: str) -> Any:
        """What it prints as JSON, decoded."""
        return json.loads(self(*words, "-o", "json"))


def eventually(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until `condition` gives something true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true after {seconds} s"
        time.sleep(0.02)
