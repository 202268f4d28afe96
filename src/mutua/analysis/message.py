"""A message: one statement of a check about one object."""

from typing import Final

import msgspec

from mutua.analysis import codes
from mutua.api.findings import Finding, Severity
from mutua.api.kinds import AnyObject, Kind

MESH_CONFIG: Final = "MeshConfig"


class Subject(msgspec.Struct, frozen=True, order=True):
    """The object that a message is about. `namespace` is "" for objects of the whole cluster."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Message(msgspec.Struct, frozen=True):
    """What is wrong (`text`), what to do (`hint`), with the code that documentation and suppressions know.

    `related` are the other objects without which it would not be so: who applies one of them wants to hear it, too.
    """

    code: str
    severity: Severity
    subject: Subject | None
    text: str
    hint: str = ""
    field: str = ""
    related: tuple[Subject, ...] = ()

    @property
    def sentence(self) -> str:
        """Text and hint in one line."""
        return f"{self.text} ({self.hint})" if self.hint else self.text

    def as_finding(self) -> Finding:
        """The same for who does not know codes of checks; warnings at most, since the object alone is valid."""
        kind, namespace, name = (
            (self.subject.kind, self.subject.namespace, self.subject.name) if self.subject else ("", "", "")
        )
        severity = Severity.INFO if self.severity is Severity.INFO else Severity.WARNING
        return Finding(kind, namespace, name, self.field, f"{self.text} [{self.code}]", severity, self.hint)


def subject(kind: Kind, item: AnyObject) -> Subject:
    """An object's name in messages."""
    namespace, name = kind.key(item.metadata)
    return Subject(kind.name, namespace, name)


def istio(code: str, about: Subject | None, *arguments: object, field: str = "", hint: str = "") -> Message:
    """A message of Istio's table, its template filled in."""
    entry = codes.ISTIO[code]
    return Message(code, entry.severity, about, entry.text(*arguments), hint, field)


def own(
    code: str,
    about: Subject,
    text: str,
    hint: str = "",
    *,
    field: str = "",
    severity: Severity | None = None,
    related: tuple[Subject, ...] = (),
) -> Message:
    """A message of our own table; the severity is the code's, unless this case is another."""
    return Message(code, severity or codes.OWN[code].severity, about, text, hint, field, related)
