"""The one list of checks."""

from typing import Final

from mutua.analysis.check import Check
from mutua.analysis.checks import (
    annotations,
    authorization_policy,
    callers_without_identity,
    certificates,
    client_tls,
    credentials,
    destination_rule,
    gateway,
    injection,
    peer_authentication,
    peer_authentication_dry_run,
    schema,
    selectors,
    service,
    service_entry,
    unserved,
    virtual_service,
)

CHECKS: Final[tuple[Check, ...]] = (
    *schema.CHECKS,
    *peer_authentication.CHECKS,
    *peer_authentication_dry_run.CHECKS,
    *destination_rule.CHECKS,
    *client_tls.CHECKS,
    *credentials.CHECKS,
    *service_entry.CHECKS,
    *selectors.CHECKS,
    *authorization_policy.CHECKS,
    *injection.CHECKS,
    *service.CHECKS,
    *annotations.CHECKS,
    *callers_without_identity.CHECKS,
    *certificates.CHECKS,
    *virtual_service.CHECKS,
    *gateway.CHECKS,
    *unserved.CHECKS,
)
