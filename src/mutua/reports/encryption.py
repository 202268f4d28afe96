"""What was negotiated on an edge between two workloads: facts of both Envoys, the verdict, and the evidence to keep."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from mutua.envoy import telemetry, telemetry_tags
from mutua.reports import exposition
from mutua.reports.table import render, shortened
from mutua.verdict.connection import Protection

HEADER: Final = ("CLIENT", "SERVER", "STATE", "TLS", "CIPHER", "GROUP")
SHORT_HEADER: Final = ("CLIENT", "SERVER", "STATE", "TLS", "GROUP")
_HANDSHAKE: Final = re.compile(r"\.ssl\.(handshake|versions|ciphers|curves|sigalgs)(?:\.(.+))?$")
_FIELDS: Final = {"versions": "versions", "ciphers": "ciphers", "curves": "groups", "sigalgs": "signature_algorithms"}


class State(StrEnum):
    """How an edge is protected."""

    MUTUAL_TLS = "mutual TLS"
    PLAINTEXT = "PLAINTEXT"
    OTHER_TLS = "other TLS"  # of the user's own: nobody proves an identity of the mesh
    REFUSED = "refused"  # no connection came about, so nothing was sent over it
    UNKNOWN = "UNKNOWN"

    @property
    def is_open(self) -> bool:
        """Whether it cannot be said that all is encrypted between proven identities."""
        return self not in (State.MUTUAL_TLS, State.REFUSED)


class Handshakes(msgspec.Struct, frozen=True):
    """The TLS handshakes of one client's Envoy with one Service's port, and how many negotiated what."""

    count: int = 0
    versions: dict[str, int] = {}
    ciphers: dict[str, int] = {}
    groups: dict[str, int] = {}
    signature_algorithms: dict[str, int] = {}

    def since(self, before: "Handshakes") -> "Handshakes":
        """Those that came after `before`."""
        return Handshakes(
            self.count - before.count,
            *(
                {name: number for name, total in new.items() if (number := total - old.get(name, 0))}
                for new, old in (
                    (self.versions, before.versions),
                    (self.ciphers, before.ciphers),
                    (self.groups, before.groups),
                    (self.signature_algorithms, before.signature_algorithms),
                )
            ),
        )


class Held(msgspec.Struct, frozen=True):
    """The certificate that a workload's Envoy presents: whose, and which."""

    pod: str  # namespace/name
    identity: str
    serial: str  # hexadecimal
    not_after: str
    envoy: str = ""  # version


class Counted(msgspec.Struct, frozen=True):
    """Requests, or connections that nobody reads, by what the client's Envoy knew of both ends; "" = no identity."""

    client: str
    server: str
    count: int


class Attempt(msgspec.Struct, frozen=True):
    """The connection that was made, and what came of it."""

    how: str
    passed: bool
    answer: str


class Sample(msgspec.Struct, frozen=True):
    """The packets of the connection, as they crossed the wire. `why` says why there are none.

    `sha256` is over the payloads in the order in which they were captured. `readable`: the request stands in them.
    """

    segments: int = 0
    octets: int = 0
    sha256: str = ""
    is_tls: bool = False
    readable: bool = False
    why: str = ""


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """One client, one Service's port, and what is known of what is between them."""

    client: str  # namespace/workload or pod
    server: str  # host:port, or namespace/pod:port where no Service is called
    state: State
    reason: str
    policy: str = ""  # the server's mode, and who decided it
    client_certificate: Held | None = None
    server_certificates: tuple[Held, ...] = ()
    handshakes: Handshakes = Handshakes()
    counted: tuple[Counted, ...] = ()
    attempt: Attempt | None = None
    sample: Sample = Sample(why="nothing was captured")


class Policy(msgspec.Struct, frozen=True):
    """An object in force, down to the version of it that was."""

    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    spec: dict[str, Any]


class Versions(msgspec.Struct, frozen=True):
    """Of all that took part."""

    client: str
    control_plane: tuple[str, ...]
    envoy: tuple[str, ...]


class Evidence(msgspec.Struct, frozen=True):
    """The document. `digest`: `jq -cSj 'del(.digest)' FILE | sha256sum`."""

    time: datetime
    by: str
    namespace: str
    versions: Versions
    policies: tuple[Policy, ...]
    edges: tuple[Edge, ...]
    digest: str = ""


def handshakes(statistics: Iterable[Mapping[str, Any]]) -> Handshakes:
    """From the entries of Envoy's `/stats?format=json`, of one cluster. Source: Envoy's TLS statistics."""
    count, found = 0, {field: dict[str, int]() for field in _FIELDS.values()}
    for entry in statistics:
        match = _HANDSHAKE.search(str(entry.get("name", "")))
        value = int(entry.get("value") or 0)
        if match is None or not value:
            continue
        if match[1] == "handshake":
            count = value
        elif match[2]:
            found[_FIELDS[match[1]]][match[2]] = value
    return Handshakes(count, found["versions"], found["ciphers"], found["groups"], found["signature_algorithms"])


def counted(samples: Iterable[exposition.Sample], host: str, port: int) -> tuple[Counted, ...]:
    """What an Envoy has counted as a client of one Service's port, from its metrics."""
    found: dict[tuple[str, str], int] = {}
    for sample in samples:
        labels = sample.labels
        if sample.name not in (telemetry.REQUESTS, telemetry.OPENED) or labels.get("reporter") != "source":
            continue
        if (labels.get("destination_service"), labels.get("destination_port")) != (host, str(port)):
            continue
        ends = (_identity(labels.get("source_principal", "")), _identity(labels.get("destination_principal", "")))
        found[ends] = found.get(ends, 0) + round(sample.value)
    return tuple(Counted(*ends, count) for ends, count in sorted(found.items()))


def more(before: Iterable[Counted], after: Iterable[Counted]) -> tuple[Counted, ...]:
    """What was counted in between."""
    known = {(item.client, item.server): item.count for item in before}
    new = (Counted(item.client, item.server, item.count - known.get((item.client, item.server), 0)) for item in after)
    return tuple(item for item in new if item.count > 0)


def held(certificates: Mapping[str, Any], pod: str, envoy: str) -> Held | None:
    """From Envoy's `/certs`: the workload's own certificate; None if it has none."""
    for entry in certificates.get("certificates") or ():
        for certificate in entry.get("cert_chain") or ():
            for name in certificate.get("subject_alt_names") or ():
                if str(name.get("uri", "")).startswith("spiffe://"):
                    expiry = str(certificate.get("expiration_time", ""))
                    return Held(pod, str(name["uri"]), str(certificate.get("serial_number", "")), expiry, envoy)
    return None


def judge(
    attempt: Attempt | None,
    sent: Protection,
    new: Handshakes,
    sample: Sample,
    *,
    counted: Sequence[Counted],
    strict: bool,
    has_certificates: bool,
) -> tuple[State, str]:
    """How the connection was protected, and how we know.

    `sent`: what the client's Envoy is configured to send; `new` and `counted`: handshakes and identities that its
    counters have more than before; `strict`: every Envoy of the server has acknowledged that it takes mutual TLS only
    on the port.
    """
    if attempt is None:
        return State.UNKNOWN, "no connection could be made, and none was seen"
    if sample.readable and not attempt.passed:
        return State.REFUSED, f"{attempt.answer}; the client had sent its request in plaintext before it was refused"
    if sample.readable:
        return State.PLAINTEXT, "the request can be read in the packets"
    if sent is Protection.NONE and attempt.passed:
        return State.PLAINTEXT, "the client's side sends plaintext, and was answered"
    if sent is Protection.TLS and attempt.passed:
        return State.OTHER_TLS, "the client's rule makes TLS of its own: nobody proves an identity of the mesh"
    if not attempt.passed and not new.count:
        return State.REFUSED, f"no connection came about: {attempt.answer}"
    if any(not (item.client and item.server) for item in counted):
        return State.PLAINTEXT, "the client's Envoy counted it as one without identities"
    if not has_certificates:
        return State.UNKNOWN, "which certificates took part could not be read"
    if new.count:
        return State.MUTUAL_TLS, "the client's Envoy shook hands for it, with both certificates verified"
    if counted:
        return State.MUTUAL_TLS, "over a kept connection, which the client's Envoy counts between both identities"
    if strict:
        return State.MUTUAL_TLS, "over a kept connection; the server's Envoy takes mutual TLS only, and answered"
    return State.UNKNOWN, "it went over a kept connection to a server that takes plaintext too: nobody tells which"


def sealed(evidence: Evidence) -> Evidence:
    """The document with its digest."""
    return msgspec.structs.replace(evidence, digest=digest(evidence))


def digest(evidence: Evidence) -> str:
    """SHA-256 of the document without its digest, as JSON with sorted keys and no blanks."""
    plain = msgspec.to_builtins(evidence)
    del plain["digest"]
    return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()


def _short_table(rows: Iterable[tuple[str, ...]]) -> str:
    short = [(*row[:4], row[5]) for row in rows]
    return render(SHORT_HEADER, shortened(SHORT_HEADER, short, names=(0,), key=1, padding=2), padding=2)


def table(edges: Iterable[Edge], *, wide: bool = False) -> str:
    """One row per edge, in 80 columns unless `wide`, and below the reasons of those that are open."""
    found = sorted(edges, key=lambda edge: (not edge.state.is_open, edge.client, edge.server))
    rows = [
        (
            edge.client,
            _short(edge.server),
            edge.state.value,
            ",".join(edge.handshakes.versions) or "-",
            ",".join(name.removeprefix("TLS_") for name in edge.handshakes.ciphers) or "-",
            ",".join(edge.handshakes.groups) or "-",
        )
        for edge in found
    ]
    text = render(HEADER, rows, padding=2) if wide else _short_table(rows)
    for edge in found:
        if edge.state.is_open:
            text += f"{edge.client} -> {_short(edge.server)}: {edge.reason}\n"
    return text


def _identity(principal: str) -> str:
    return "" if principal == telemetry_tags.UNKNOWN else principal


def _short(server: str) -> str:
    host, _, port = server.rpartition(":")
    name, dot, rest = host.partition(".")
    return f"{name}.{rest.partition('.')[0]}:{port}" if dot else server
