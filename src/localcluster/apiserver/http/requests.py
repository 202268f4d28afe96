"""How many requests the API answers: counted since its start, and as a rate over the last seconds."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

WINDOW_SECONDS = 10


class Requests:
    """Counts requests by method and code."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that only grow."""
        self._clock = clock
        self._total: Counter[tuple[str, int]] = Counter()
        self._recent: deque[tuple[int, int]] = deque()

    def count(self, method: str, code: int) -> None:
        """One more request was answered."""
        self._total[method, code] += 1
        second = int(self._clock())
        if self._recent and self._recent[-1][0] == second:
            self._recent[-1] = (second, self._recent[-1][1] + 1)
        else:
            self._recent.append((second, 1))
            self._forget(second)

    def _forget(self, now: int) -> None:
        while self._recent and self._recent[0][0] <= now - WINDOW_SECONDS:
            self._recent.popleft()

    @property
    def per_second(self) -> float:
        """The rate over the last `WINDOW_SECONDS`."""
        self._forget(int(self._clock()))
        return sum(count for _, count in self._recent) / WINDOW_SECONDS

    def exposition(self) -> str:
        """Both in Prometheus' text format; the total has the name and labels of Kubernetes' own."""
        lines = ["# TYPE apiserver_request_total counter"]
        lines += [
            f'apiserver_request_total{{verb="{method}",code="{code}"}} {count}'
            for (method, code), count in sorted(self._total.items())
        ]
        lines += [
            "# TYPE localcluster_requests_per_second gauge",
            f"localcluster_requests_per_second {self.per_second}",
        ]
        return "\n".join(lines) + "\n"
