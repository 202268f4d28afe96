"""The logs of the node's own processes: kept small while they are written to."""

import asyncio
import logging
import shutil
from pathlib import Path

from localcluster.paths import ClusterPaths

_log = logging.getLogger(__name__)
_LARGEST_BYTES = 10 << 20
_LOOK_SECONDS = 60.0


async def run(paths: ClusterPaths) -> None:
    """Keep them small until cancelled."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        for path in (paths.logs / "host.log", paths.logs / "apiserver.log", paths.audit_log):
            try:
                rotate(path, _LARGEST_BYTES)
            except OSError as error:
                _log.warning("%s is not rotated: %s", path.name, error)


def rotate(path: Path, largest_bytes: int) -> bool:
    """Move what is in a log beside it (`.1`) if it is too large; whether it was. Raises OSError.

    It is copied and emptied rather than renamed: its writers hold it open, to append, and know nothing of this.
    """
    if not path.exists() or path.stat().st_size <= largest_bytes:
        return False
    older = path.with_name(f"{path.name}.1")
    shutil.copyfile(path, older)
    older.chmod(0o600)
    with path.open("r+b") as log:
        log.truncate(0)
    return True
