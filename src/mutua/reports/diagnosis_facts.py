"""What a diagnosis looks at: facts about one or two pods and the way between them, gathered from the live system."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from mutua.verdict.call import Outcome


class Listening(StrEnum):
    """Whether an application waits on a port."""

    YES = "yes"
    LOOPBACK = "on the loopback address only"
    NO = "no"
    UNKNOWN = "unknown"


class Certificate(msgspec.Struct, frozen=True):
    """The certificate that a sidecar holds, and whom it trusts."""

    identity: str  # SPIFFE id
    not_before: datetime
    not_after: datetime
    roots: frozenset[str]  # fingerprints of the roots that the sidecar trusts


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One pod. `injection` is why it has or lacks a sidecar; `owner` the Deployment that makes it, "" if none does."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    service_account: str
    phase: str
    waiting: tuple[str, ...] = ()  # containers that do not run, with the reason
    owner: str = ""
    has_sidecar: bool = True
    injection: str = ""
    would_be_injected: bool = False
    proxy_ready: bool = True
    connected: bool | None = None  # to the control plane; None: not known
    refused: tuple[str, ...] = ()  # what its Envoy refused, in Envoy's words
    refused_objects: tuple[str, ...] = ()  # what that was made from, as in "DestinationRule shop/default"
    certificate: Certificate | None = None
    clock_ahead: timedelta | None = None  # of its Envoy's clock, against ours; None: not known
    expected_identity: str = ""

    def __str__(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found out. `server` None: only the client is asked about, or nothing is behind `target`."""

    now: datetime
    client: Side
    server: Side | None = None
    target: str = ""  # what the client dials, as host:port; "" = one pod alone
    host: str = ""
    port: int = 0
    server_port: int = 0
    mesh_roots: frozenset[str] = frozenset()  # fingerprints of the roots that the mesh has now; empty: not known
    trouble: str = ""  # why nothing is behind the target
    outcome: Outcome | None = None
    listening: Listening = Listening.UNKNOWN
    rule_mode_path: str = ""  # field of the DestinationRule that says the mode, if it is the rule's own


class Change(msgspec.Struct, frozen=True):
    """One change of one object. `merge`: a merge patch; else the whole object is applied."""

    kind: str  # Namespace, Deployment, PeerAuthentication, DestinationRule, AuthorizationPolicy
    namespace: str
    name: str
    body: dict[str, Any]
    merge: bool = True


class Fix(msgspec.Struct, frozen=True):
    """What cures it: commands to type, and the changes that `--apply` makes; none where a person must decide."""

    commands: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()


class Look(msgspec.Struct, frozen=True):
    """One step of the walk. `good` None: it could not be found out."""

    question: str
    good: bool | None
    evidence: str


class Diagnosis(msgspec.Struct, frozen=True):
    """The steps, and the cause; `cause` "" means that nothing was found."""

    looks: tuple[Look, ...]
    cause: str
    sentence: str
    fix: Fix = Fix()
