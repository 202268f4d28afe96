"""Log files in, what kubectl shows out."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from localcluster.node.logs import LogQuery, LogQueryError, read, rotated

NOW = datetime(2026, 1, 1, 12, 0, 10, tzinfo=UTC)


def record(second: int, text: str, tag: str = "F") -> str:
    return f"2026-01-01T12:00:{second:02}.000000001Z stdout {tag} {text}\n"


async def shown(path: Path, **options: str) -> str:
    query = LogQuery.parse(options, NOW)
    return b"".join([piece async for piece in read(path, query)]).decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    path.write_text(record(1, "one") + record(2, "tw", "P") + record(2, "o") + record(3, "") + record(4, "four 4"))
    return path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "one\ntwo\n\nfour 4\n"),
        ({"tailLines": "2"}, "\nfour 4\n"),
        ({"tailLines": "3"}, "two\n\nfour 4\n"),
        ({"tailLines": "0"}, ""),
        ({"tailLines": "99"}, "one\ntwo\n\nfour 4\n"),
        ({"sinceTime": "2026-01-01T12:00:03Z"}, "\nfour 4\n"),
        ({"sinceSeconds": "7"}, "\nfour 4\n"),
        ({"limitBytes": "5"}, "one\nt"),
        ({"timestamps": "true", "tailLines": "1"}, "2026-01-01T12:00:04.000000001Z four 4\n"),
        ({"timestamps": "true", "tailLines": "3", "limitBytes": "35"}, "2026-01-01T12:00:02.000000001Z two\n"),
    ],
)
async def test_options(path: Path, options: dict[str, str], expected: str) -> None:
    assert await shown(path, **options) == expected


async def test_the_older_file_comes_first_and_counts_for_tail(path: Path) -> None:
    rotated(path).write_text(record(0, "zero"))
    assert await shown(path) == "zero\none\ntwo\n\nfour 4\n"
    assert await shown(path, tailLines="5") == "zero\none\ntwo\n\nfour 4\n"
    assert await shown(path, tailLines="4") == "one\ntwo\n\nfour 4\n"


async def test_no_file_is_no_output(tmp_path: Path) -> None:
    assert await shown(tmp_path / "none.log") == ""


@pytest.mark.parametrize("options", [{"tailLines": "-1"}, {"sinceTime": "yesterday"}, {"limitBytes": "x"}])
def test_bad_options_are_named(options: dict[str, str]) -> None:
    with pytest.raises(LogQueryError, match=next(iter(options))):
        LogQuery.parse(options, NOW)


class WritingContainer:
    """Only what following needs: the live output."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def output(self) -> AsyncIterator[tuple[str, bytes]]:
        while (data := await self.queue.get()) is not None:
            yield "stdout", data


def rotate(path: Path, first_record: str) -> None:
    path.rename(rotated(path))
    path.write_text(first_record)


async def test_following_sees_what_comes_over_a_rotation_and_ends_with_the_container(path: Path) -> None:
    container = WritingContainer()
    pieces = read(path, LogQuery(follow=True, tail_lines=1), container)  # type: ignore[arg-type]
    assert await anext(pieces) == b"four 4\n"
    with path.open("a") as file:
        file.write(record(5, "five"))
    container.queue.put_nowait(b"five\n")
    assert await anext(pieces) == b"five\n"
    rotate(path, record(6, "six"))
    container.queue.put_nowait(b"six\n")
    assert await anext(pieces) == b"six\n"
    container.queue.put_nowait(None)
    assert [piece async for piece in pieces] == []


async def test_without_following_the_end_is_where_it_was_at_the_beginning(path: Path) -> None:
    pieces = read(path, LogQuery(tail_lines=1))
    shown = await anext(pieces)
    with path.open("a") as file:
        file.write(record(5, "later"))
    assert [shown, *[piece async for piece in pieces]] == [b"four 4\n"]
