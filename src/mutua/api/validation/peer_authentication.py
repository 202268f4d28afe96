"""Rules about one PeerAuthentication."""

from collections.abc import Iterator

from mutua.api.findings import Violation
from mutua.api.security import PeerAuthentication


def violations(item: PeerAuthentication) -> Iterator[Violation]:
    """All violations."""
    yield from ()
