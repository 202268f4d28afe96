"""What containers use: processor time and memory of their processes, as the kernel shows them in /proc."""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/<pid>/stat behind the name: times of the process and of its children that were waited for.
_FIRST_TIME, _LAST_TIME = 11, 15
_SHORTEST_WINDOW_SECONDS, _LONGEST_WINDOW_SECONDS = 0.5, 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """By pid namespace (its inode): processor seconds so far, and bytes of memory that are not shared."""

    taken_at: float
    seconds: Mapping[int, float]
    memory: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Usage:
    """Over `window_seconds`: cores in use, and bytes of memory, by pid namespace."""

    window_seconds: float
    cores: Mapping[int, float]
    memory: Mapping[int, int]


def namespace_of(pid: int) -> int | None:
    """The inode of a process's pid namespace; None if it has ended."""
    try:
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino
    except OSError:
        return None


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        try:
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
        except OSError:  # it has just ended
            continue
    return found


def own_memory(pids: Iterable[int]) -> int:
    """Bytes that the processes do not share with files; pages that forks still share count for each."""
    total = 0
    for pid in pids:
        try:
            pages = Path(f"/proc/{pid}/statm").read_text().split()
        except OSError:
            continue
        total += (int(pages[1]) - int(pages[2])) * _PAGE_BYTES
    return total


def exact_memory(pids: Iterable[int]) -> int:
    """Bytes of anonymous and shared memory, each page counted once; slower. 0 where the kernel does not tell."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, amount = line.partition(":")
            if name in ("Pss_Anon", "Pss_Shmem"):
                total += int(amount.split()[0]) * 1024
    return total


def sample() -> Sample:
    """Look at every process that this one can see."""
    seconds: dict[int, float] = defaultdict(float)
    memory: dict[int, int] = defaultdict(int)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            namespace = (entry / "ns" / "pid").stat().st_ino
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            pages = (entry / "statm").read_text().split()
        except OSError:  # it has just ended
            continue
        seconds[namespace] += sum(map(int, fields[_FIRST_TIME:_LAST_TIME])) / _TICKS
        memory[namespace] += (int(pages[1]) - int(pages[2])) * _PAGE_BYTES
    return Sample(time.monotonic(), seconds, memory)


def between(first: Sample, second: Sample) -> Usage:
    """What was used from one sample to the next."""
    window = second.taken_at - first.taken_at
    cores = {
        # What ended in between takes its time with it: less than nothing was not used.
        namespace: max(0.0, total - first.seconds.get(namespace, 0.0)) / window
        for namespace, total in second.seconds.items()
    }
    return Usage(window, cores, second.memory)


class UsageMeter:
    """Measures when asked, and only then: against the last time if that was recently, else over a short wait."""

    def __init__(self) -> None:
        self._last: Sample | None = None

    async def measure(self) -> Usage:
        """What is used now."""
        first, now = self._last, time.monotonic()
        if first is None or now - first.taken_at > _LONGEST_WINDOW_SECONDS:
            first = sample()
        missing = _SHORTEST_WINDOW_SECONDS - (now - first.taken_at)
        if missing > 0:
            await asyncio.sleep(missing)
        self._last = sample()
        return between(first, self._last)
