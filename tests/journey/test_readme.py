"""The README's tutorial, pasted into a shell as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from journey_shell import Journey

pytestmark = pytest.mark.cluster

README = Path(__file__).parents[2] / "README.md"
COMMAND = Path(sys.executable).parent / "mutua"


def blocks() -> list[str]:
    """The bash blocks of the tutorial."""
    section = README.read_text().partition("## Use it")[2].partition("\n| command |")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


def test_the_tutorial_does_what_it_says(kubectl: Path, tmp_path: Path) -> None:
    """Every command succeeds; plaintext is refused, the right client is served, and both are told."""
    shell = Journey(home=tmp_path, kubectl=kubectl, command=COMMAND)
    try:
        script = "set -e -o pipefail\n" + "\n".join(blocks())
        done = subprocess.run(
            ["bash", "-c", script],
            env=shell.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    finally:
        subprocess.run([COMMAND, "down"], env=shell.environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for line in (
        r"^backend-\S+\s+2/2\s+Running",
        r"^default\s+Cert Chain\s+ACTIVE\s+true",
        r"^refused: no certificate$",
        r"^200$",
        r"^Cause: plaintext-to-strict: ",
        r"^secure-apps/frontend\s+yes\s+80\s+allowed\s+secure-apps/backend-access",
        r"^secure-apps/default\s+no\s+80\s+refused\s+secure-apps/strict-mtls",
        r"non-mTLS traffic client=secure-apps/test-pod server=secure-apps/backend-\S+ port=80 outcome=refused",
    ):
        assert re.search(line, done.stdout, re.MULTILINE), f"{line}\n{done.stdout}\n{done.stderr}"
