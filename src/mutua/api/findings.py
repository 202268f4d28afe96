"""A finding: one thing that is wrong or doubtful about one object, with the path of the field."""

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How bad it is. ERROR: refused at apply time."""

    ERROR = "Error"
    WARNING = "Warning"
    INFO = "Info"


class Finding(msgspec.Struct, frozen=True, order=True):
    """One statement about one object. `field` is a path as `spec.rules[0].from[1].source`; "" is the whole object."""

    kind: str
    namespace: str
    name: str
    field: str
    message: str
    severity: Severity = Severity.ERROR
    hint: str = ""

    @property
    def is_error(self) -> bool:
        """Whether the object must not be accepted."""
        return self.severity is Severity.ERROR

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        field = f" {self.field}:" if self.field else ""
        return f"{self.kind} {where}:{field} {self.message}"


class Violation(msgspec.Struct, frozen=True, order=True):
    """A finding whose object is known from the context: what a rule about one object returns."""

    field: str
    message: str
    severity: Severity = Severity.ERROR
    hint: str = ""

    @property
    def is_error(self) -> bool:
        """Whether the object must not be accepted."""
        return self.severity is Severity.ERROR

    def about(self, kind: str, namespace: str, name: str) -> Finding:
        """The finding about that object."""
        return Finding(kind, namespace, name, self.field, self.message, self.severity, self.hint)


def error(field: str, message: str, hint: str = "") -> Violation:
    """The object must be refused."""
    return Violation(field, message, Severity.ERROR, hint)


def warning(field: str, message: str, hint: str = "") -> Violation:
    """The object is accepted, and probably not what was meant."""
    return Violation(field, message, Severity.WARNING, hint)
