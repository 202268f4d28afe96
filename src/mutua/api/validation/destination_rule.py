"""Rules about one DestinationRule."""

from collections.abc import Iterator

from mutua.api.findings import Violation
from mutua.api.networking import DestinationRule


def violations(item: DestinationRule) -> Iterator[Violation]:
    """All violations."""
    yield from ()
