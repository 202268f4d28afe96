"""What containers say: into log files of the CRI format, and live to listeners."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from localcluster.node.processes import exit_status
from localcluster.node.runtime import ExitStatus
from localcluster.node.runtime_output import LogFile, OutputPump, timestamp

NOW = 1_767_225_600_000_000_005  # 2026-01-01T00:00:00.000000005Z
PREFIX = "2026-01-01T00:00:00.000000005Z stdout"


def test_times_have_nine_digits() -> None:
    assert timestamp(NOW) == "2026-01-01T00:00:00.000000005Z"


def test_lines_wait_for_their_end(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "pod" / "0.log")

    log.write("stdout", b"one\ntw", NOW)
    log.write("stderr", b"error\n", NOW)
    log.write("stdout", b"o\n\nthree", NOW)
    log.close(NOW)

    assert (tmp_path / "pod" / "0.log").read_text().splitlines() == [
        f"{PREFIX} F one",
        "2026-01-01T00:00:00.000000005Z stderr F error",
        f"{PREFIX} F two",
        f"{PREFIX} F ",
        f"{PREFIX} P three",
    ]


async def test_endless_output_has_to_wait(tmp_path: Path) -> None:
    noisy_reader, noisy_writer = os.pipe()
    os.set_blocking(noisy_reader, False)
    os.set_blocking(noisy_writer, False)
    pump = OutputPump({"stdout": noisy_reader}, LogFile(tmp_path / "0.log"))
    written = 0
    # A line of two bytes is one of more than forty in the log: a megabyte is more than may be written at once.
    while written < 1 << 20:
        try:
            written += os.write(noisy_writer, b"y\n" * 4096)
        except BlockingIOError:
            if pump.is_waiting:
                break
        await asyncio.sleep(0)

    assert pump.is_waiting
    assert (tmp_path / "0.log").stat().st_size < 20 << 20
    os.close(noisy_writer)
    pump.close()


def test_long_lines_come_in_parts(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "0.log")

    log.write("stdout", b"a" * 16384 + b"b", NOW)
    log.write("stdout", b"c\n", NOW)
    log.close(NOW)

    assert (tmp_path / "0.log").read_text().splitlines() == [f"{PREFIX} P {'a' * 16384}", f"{PREFIX} F bc"]


def test_a_log_that_is_too_large_is_rotated(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "0.log")
    line = b"x" * 1023 + b"\n"

    for _ in range(11):
        log.write("stdout", line * 1024, NOW)
    log.close(NOW)

    assert (tmp_path / "0.log.1").stat().st_size > 10 << 20
    assert (tmp_path / "0.log").stat().st_size < 2 << 20


def test_a_full_disk_costs_lines_but_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    log = LogFile(Path("/dev/full"))

    log.write("stdout", b"lost\n", NOW)
    log.write("stdout", b"lost\n", NOW)
    log.close(NOW)

    assert ["cannot write /dev/full" in record.message for record in caplog.records] == [True]


async def test_listeners_get_what_comes_from_now_on_and_then_the_end(tmp_path: Path) -> None:
    output, inputs = os.pipe()
    os.set_blocking(output, False)
    pump = OutputPump({"stdout": output}, LogFile(tmp_path / "0.log"))
    heard: list[bytes] = []

    async def listen() -> None:
        heard.extend([chunk async for _, chunk in pump.listen()])

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    os.write(inputs, b"hello\n")
    os.close(inputs)
    await pump.finished()
    await listening

    assert heard == [b"hello\n"]
    assert (tmp_path / "0.log").read_text().endswith(" stdout F hello\n")
    assert [chunk async for chunk in pump.listen()] == []


@pytest.mark.parametrize(
    ("wait_status", "code", "number"), [(0, 0, None), (7 << 8, 7, None), (9, 137, 9), (15, 143, 15)]
)
def test_ends_are_told_in_kubernetes_terms(wait_status: int, code: int, number: int | None) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    assert exit_status(wait_status, now) == ExitStatus(code, number, now)
