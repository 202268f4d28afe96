"""Prometheus' own checker of rules: the machine's, else the one inside Debian's package, unpacked and not installed."""

import shutil
import subprocess
import tempfile
from pathlib import Path

PACKAGE = "prometheus"
TOOLS = Path(__file__).parent.parent / ".tools"


def find() -> Path:
    """Path of a promtool, unpacked under `.tools/` on first use where the machine has none.

    Raises RuntimeError, with what was tried, if that does not work.
    """
    for candidate in (shutil.which("promtool"), TOOLS / "promtool"):
        if candidate and Path(candidate).exists():
            return Path(candidate)
    TOOLS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TOOLS) as folder:
        try:
            _download(folder)
            (package,) = Path(folder).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True, capture_output=True, timeout=100)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or error
            raise RuntimeError(f"no promtool here, and Debian's package {PACKAGE} brought none: {said!r}") from error
        # A rename, because two test processes may do this at once.
        (Path(folder) / "usr/bin/promtool").rename(TOOLS / "promtool")
    return TOOLS / "promtool"


def _download(folder: str) -> None:
    """With apt's lists of this machine; where they are missing, with lists of our own, which any user may fetch."""
    words = ["apt-get", "download", "-qq", PACKAGE]
    done = subprocess.run(words, cwd=folder, check=False, capture_output=True, timeout=300)
    if done.returncode:
        (Path(folder) / "lists/partial").mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
        subprocess.run(["apt-get", *own, "update", "-qq"], check=True, capture_output=True, timeout=300)
        done = subprocess.run([*words, *own], cwd=folder, check=False, capture_output=True, timeout=300)
    done.check_returncode()
