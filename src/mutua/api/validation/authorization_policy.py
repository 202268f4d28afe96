"""Rules about one AuthorizationPolicy."""

from collections.abc import Iterator

from mutua.api.findings import Violation
from mutua.api.security import AuthorizationPolicy


def violations(item: AuthorizationPolicy) -> Iterator[Violation]:
    """All violations."""
    yield from ()
