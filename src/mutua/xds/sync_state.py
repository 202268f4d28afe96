"""How far a proxy is with one type of resource, and what it was sent of it. Costs nothing to import."""

from enum import StrEnum

import msgspec


class SyncState(StrEnum):
    """As `proxy-status` prints it."""

    SYNCED = "SYNCED"
    STALE = "STALE"
    NOT_SENT = "NOT SENT"
    ERROR = "ERROR"


class Sent(msgspec.Struct, frozen=True):
    """One resource that the control plane sent to a proxy. `body` is a serialised google.protobuf.Any, or b""."""

    type: str  # CDS, EDS, LDS, RDS
    name: str
    version: str
    body: bytes = b""
