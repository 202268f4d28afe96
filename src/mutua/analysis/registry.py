"""The one list of checks."""

from typing import Final

from mutua.analysis.check import Check
from mutua.analysis.checks import peer_authentication, schema

CHECKS: Final[tuple[Check, ...]] = (
    *schema.CHECKS,
    *peer_authentication.CHECKS,
)
