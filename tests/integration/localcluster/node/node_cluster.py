"""A cluster of a test module's own with a real node, and kubectl for it."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster import lifecycle

WAIT = "--timeout=30s"


@dataclass
class Node:
    """A cluster of the test's own, and kubectl for it."""

    cluster: lifecycle.Cluster
    root: Path
    program: Path

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl, whatever comes of it."""
        environment = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)}
        command = [str(self.program), *arguments]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=environment, timeout=60, check=False
        )

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl prints; it has to succeed."""
        answer = self.run(*arguments, stdin=stdin)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create the objects, as the server understands them."""
        self.kubectl(
            "create",
            "--validate=false",
            "-f",
            "-",
            stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
        )

    def ready(self, pod: str) -> None:
        """Wait until the pod is ready."""
        self.kubectl("wait", "--for=condition=ready", f"pod/{pod}", WAIT)

    def pod(self, name: str) -> Any:
        """The pod as the API has it."""
        return json.loads(self.kubectl("get", "pod", name, "-o", "json"))


def pod(name: str, script: str, **spec: Any) -> dict[str, Any]:
    """A pod with one container that runs a shell script."""
    container = {"name": "main", "image": "busybox", "command": ["sh", "-c", script], **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
