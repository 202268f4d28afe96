"""libfaketime, which gives one process another time: the machine's own, or the distribution's package unpacked."""

import subprocess
from pathlib import Path

TOOLS = Path(__file__).parent.parent / ".tools"
LIBRARY = "faketime/libfaketime.so.1"


def find() -> Path:
    """Path of the library, unpacked under `.tools/` on first use where the machine has none. Raises RuntimeError."""
    for folder in (Path("/usr/lib"), TOOLS / "libfaketime"):
        if found := next(folder.glob(f"**/{LIBRARY}"), None):
            return found
    return _unpacked()


def _unpacked() -> Path:
    TOOLS.mkdir(exist_ok=True)
    download = ["apt-get", "download", "--quiet", "libfaketime"]
    tried = subprocess.run(download, cwd=TOOLS, capture_output=True, text=True, check=False)
    if tried.returncode:
        subprocess.run(["apt-get", "update", "--quiet"], cwd=TOOLS, capture_output=True, check=False)
        tried = subprocess.run(download, cwd=TOOLS, capture_output=True, text=True, check=False)
    package = next(TOOLS.glob("libfaketime_*.deb"), None)
    if package is None:
        raise RuntimeError(f"cannot get the package libfaketime: {tried.stderr}")
    subprocess.run(["dpkg", "-x", str(package), str(TOOLS / "libfaketime")], check=True)
    package.unlink()
    return next((TOOLS / "libfaketime").glob(f"**/{LIBRARY}"))
