"""Rules about one PeerAuthentication."""

from collections.abc import Iterator

from mutua.api.findings import Violation, error
from mutua.api.security import PeerAuthentication
from mutua.api.validation import common


def violations(item: PeerAuthentication) -> Iterator[Violation]:
    """Port-level modes need a selector, and port numbers as keys."""
    spec = item.spec
    yield from common.selector(spec.selector)
    yield from common.dry_run(item.metadata)
    if spec.port_level_mtls is None:
        return
    if spec.selector is None or not spec.selector.match_labels:
        yield error(
            "spec.portLevelMtls",
            "mesh/namespace peer authentication cannot have port level mTLS",
            "add spec.selector.matchLabels with the labels of the workload",
        )
    for key in spec.port_level_mtls:
        field = f"spec.portLevelMtls[{key}]"
        if not (key.isascii() and key.isdecimal()):
            yield error(field, f'type conversion error from "{key}": a port is a number')
        elif not 1 <= int(key) <= 65535:
            yield error(field, "port must be between 1-65535; port must be in range 1..65535")
