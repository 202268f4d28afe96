"""How far a proxy is with one type of resource."""

from enum import StrEnum


class SyncState(StrEnum):
    """As `proxy-status` prints it."""

    SYNCED = "SYNCED"
    STALE = "STALE"
    NOT_SENT = "NOT SENT"
    ERROR = "ERROR"
