"""Rules about one RequestAuthentication."""

from collections.abc import Iterator

from mutua.api.findings import Violation
from mutua.api.security import RequestAuthentication


def violations(item: RequestAuthentication) -> Iterator[Violation]:
    """All violations."""
    yield from ()
