"""The one list of checks."""

from typing import Final

from mutua.analysis.check import Check
from mutua.analysis.checks import authorization_policy, destination_rule, peer_authentication, schema, selectors

CHECKS: Final[tuple[Check, ...]] = (
    *schema.CHECKS,
    *peer_authentication.CHECKS,
    *destination_rule.CHECKS,
    *selectors.CHECKS,
    *authorization_policy.CHECKS,
)
