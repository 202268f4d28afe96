"""Brings the dashboard's JavaScript libraries from npm, as they were published, and checks that they are those.

    .venv/bin/python tools/page_libraries.py

A new version: change it here, run this, put the digest that is told here too, and look at the page.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

TARGET = Path(__file__).parent.parent / "src/mutua/servers/dashboard_page"


class Library(NamedTuple):
    """One published file. `digest` is its SHA-256."""

    package: str
    version: str
    file: str
    name: str
    digest: str


LIBRARIES = (
    Library(
        "@dagrejs/dagre",
        "3.1.3",
        "dist/dagre.esm.js",
        "dagre",
        "b0ddaf4af1417bec9bd89373a3a3987f081727d6cc6d95fc40dbf85a19bdf3b0",
    ),
    Library(
        "preact",
        "11.2.0",
        "dist/preact.mjs",
        "preact",
        "bdcbd9abdf2c77c5c45326eab42191e949222d479d0d5f69467387a77040cb55",
    ),
    Library(
        "htm", "3.1.1", "dist/htm.module.js", "htm", "ab33dd3f38059b9be4d5f5350128eefb2356639c4e0bbe9d9e8b3ba75847e9e4"
    ),
)


def main() -> None:
    """Writes each library and its licence; ends with 1 if a file is not the one that is expected."""
    with tempfile.TemporaryDirectory() as folder:
        for library in LIBRARIES:
            package = f"{library.package}@{library.version}"
            packed = subprocess.run(
                ["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True
            )
            with tarfile.open(Path(folder, packed.stdout.strip())) as archive:
                content = _member(archive, f"package/{library.file}")
                licence = _member(archive, "package/LICENSE")
            digest = hashlib.sha256(content).hexdigest()
            if digest != library.digest:
                sys.exit(f"error: {library.file} of {package} is {digest}, not {library.digest}")
            (TARGET / f"{library.name}.js").write_bytes(content)
            head = f"{library.name}.js is {library.file} of {package}, unchanged.\n\n"
            (TARGET / f"{library.name}.LICENSE.txt").write_bytes(head.encode() + licence)
            print(f"{package}: {len(content)} bytes")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    found = archive.extractfile(name)
    if found is None:
        sys.exit(f"error: {name} is not in the package")
    return found.read()


if __name__ == "__main__":
    main()
