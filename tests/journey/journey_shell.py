"""What a person types, and what comes back."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = Path(sys.executable).parent / "mutua"


@dataclass
class Journey:
    """A terminal: kubectl and mutua with the cluster's kubeconfig."""

    home: Path
    kubectl: Path
    command: Path
    kubeconfig: Path | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of everything that is typed."""
        values = os.environ | {"MUTUA_HOME": str(self.home), "NO_COLOR": "1"} | self.extra
        values["PATH"] = f"{self.kubectl.parent}:{self.command.parent}:{values['PATH']}"
        if self.kubeconfig is not None:
            values["KUBECONFIG"] = str(self.kubeconfig)
        return values

    def mutua(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Our own command."""
        return self.run([str(self.command), *words], timeout=timeout)

    def kube(self, *words: str, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """kubectl."""
        return self.run([str(self.kubectl), *words], stdin=stdin, timeout=timeout)

    def must(self, *words: str, stdin: str = "") -> str:
        """kubectl, which has to succeed; what it printed."""
        done = self.kube(*words, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def run(self, words: list[str], *, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Anything."""
        return subprocess.run(
            words, env=self.environment, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )

    def pod(self, app: str, namespace: str = "secure-apps") -> str:
        """Name of a running pod of an application."""
        return self.must("get", "pods", "-n", namespace, "-l", f"app={app}", "-o", "jsonpath={.items[0].metadata.name}")

    def curl(self, client: str, *words: str, namespace: str = "secure-apps") -> tuple[int, int]:
        """curl from a pod: its exit code and the HTTP status."""
        done = self.kube(
            "exec",
            client,
            "-n",
            namespace,
            "--",
            "curl",
            "-s",
            "-m",
            "5",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            *words,
        )
        code = 0
        if done.returncode:
            # kubectl tells the command's exit code in its last line.
            tail = done.stderr.strip().rsplit(" ", 1)[-1]
            code = int(tail) if tail.isdigit() else -1
        status = done.stdout.strip()[-3:]
        return code, int(status) if status.isdigit() else 0
