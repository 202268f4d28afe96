"""Sockets of the file system."""

import os
import socket
from pathlib import Path


def listening(path: Path) -> socket.socket:
    """A socket at `path`, for this user alone, that takes connections and answers none; a stale one is replaced.

    Raises OSError.
    """
    made = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        if path.is_socket():
            path.unlink()
        made.bind(str(path))
        made.listen()
    except OSError:
        made.close()
        raise
    finally:
        os.umask(before)
    return made
