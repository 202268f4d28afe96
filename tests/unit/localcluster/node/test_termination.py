"""Termination messages: what a container leaves behind, and what stands in for it."""

from pathlib import Path

import pytest

from localcluster.node.termination import TerminationMessage

LOG = "2026-01-01T00:00:00.000000000Z stdout F "


def message(root: Path, policy: str = "File", path: str = "/dev/termination-log") -> TerminationMessage:
    container = {"name": "main", "terminationMessagePath": path, "terminationMessagePolicy": policy}
    return TerminationMessage(root, "uid", container, 0)


def test_what_the_container_wrote_is_its_message_up_to_the_limit(tmp_path: Path) -> None:
    found = message(tmp_path)
    (mount,) = found.mounts()
    assert mount.source is not None
    assert (mount.target, mount.read_only, mount.source.stat().st_mode & 0o777) == (
        "/dev/termination-log",
        False,
        0o666,
    )

    mount.source.write_text("because" * 1000)
    assert found.read(1, None) == ("because" * 1000)[:4096]


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [("File", 1, ""), ("FallbackToLogsOnError", 0, ""), ("FallbackToLogsOnError", 1, "one\ntwo\n")],
)
def test_the_end_of_the_log_stands_in_only_after_a_failure_and_if_asked_for(
    tmp_path: Path, policy: str, code: int, expected: str
) -> None:
    log = tmp_path / "0.log"
    log.write_text(f"{LOG}one\n{LOG}two\n")

    assert message(tmp_path, policy).read(code, log) == expected


def test_only_the_last_lines_of_a_long_log_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_text("".join(f"{LOG}{number}\n" for number in range(200)))

    assert message(tmp_path, "FallbackToLogsOnError").read(1, log).split() == [str(n) for n in range(120, 200)]


def test_without_a_path_there_is_no_file(tmp_path: Path) -> None:
    assert message(tmp_path, path="").mounts() == ()
