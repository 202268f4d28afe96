"""The node's own logs: rotated under their writers."""

from pathlib import Path

from localcluster.node.own_logs import rotate


def test_a_log_is_emptied_under_its_writer_once_it_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "host.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        assert not rotate(path, 100)
        writer.write(b"y")
        assert rotate(path, 100)
        writer.write(b"next")

    assert path.read_bytes() == b"next"
    older = tmp_path / "host.log.1"
    assert (older.read_bytes(), older.stat().st_mode & 0o777) == (b"x" * 100 + b"y", 0o600)


def test_a_log_that_is_not_there_needs_nothing(tmp_path: Path) -> None:
    assert not rotate(tmp_path / "apiserver.log", 0)
