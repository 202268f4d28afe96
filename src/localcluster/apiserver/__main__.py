"""The API server's process: `python -m localcluster.apiserver --directory D --listen-fd N [--listen-fd M]`."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from pathlib import Path

import uvloop

from localcluster.apiserver.server import serve
from localcluster.apiserver.settings import Settings
from localcluster.apiserver.storage import StorageError
from localcluster.paths import ClusterPaths
from localcluster.pki import PkiError, load


def main() -> int:
    """Run until told to stop; 1 if the cluster's files can't be used."""
    parser = argparse.ArgumentParser(prog="localcluster.apiserver", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="the cluster's directory")
    parser.add_argument(
        "--listen-fd", type=int, action="append", required=True, help="a bound TCP socket to serve TLS on; repeatable"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    os.umask(0o077)
    paths = ClusterPaths(arguments.directory.absolute())
    try:
        settings = Settings(paths, load(paths))
        sockets = [socket.socket(fileno=descriptor) for descriptor in arguments.listen_fd]
        uvloop.run(serve(settings, sockets))
    except PkiError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 1
    except (StorageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
