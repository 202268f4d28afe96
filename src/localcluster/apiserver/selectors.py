"""Label and field selectors: text to predicates over objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from localcluster.apiserver.errors import BadRequestError
from localcluster.apiserver.kinds import KindInfo

Predicate = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(r"\s*(notin\b|in\b|==|!=|[=!(),<>]|[^\s=!(),<>]+)")
_KEY = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")

_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_FIELDS_OF_KIND: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "pods"): (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    ("", "namespaces"): ("status.phase",),
    ("", "nodes"): ("spec.unschedulable",),
    ("", "secrets"): ("type",),
    ("", "services"): ("spec.clusterIP", "spec.type"),
    ("", "events"): (
        *(f"involvedObject.{name}" for name in _INVOLVED),
        *(f"regarding.{name}" for name in _INVOLVED),
        "reason",
        "reportingComponent",
        "reportingController",
        "source",
        "type",
    ),
    ("apps", "replicasets"): ("status.replicas",),
    ("batch", "jobs"): ("status.successful",),
}
_FALSE_WHEN_MISSING = {"spec.unschedulable", "spec.hostNetwork"}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term: `operator` is in, notin, exists, absent, gt or lt (label selectors' =, == and != are in and notin)."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, value: str | None) -> bool:
        """Whether a label's value (None: no such label) meets the requirement."""
        match self.operator:
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "absent":
                return value is None
        try:
            number, limit = int(value or ""), int(self.values[0])
        except ValueError:
            return False
        return number > limit if self.operator == "gt" else number < limit


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """The requirements of a label selector (`a=b,c in (d,e),!f`). BadRequestError if it can't be read."""
    return _Parser(text).requirements()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _TOKEN.findall(text)
        self._position = 0

    def requirements(self) -> tuple[Requirement, ...]:
        found = []
        while self._peek() is not None:
            found.append(self._requirement())
            if self._peek() is not None:
                self._expect(",")
        return tuple(found)

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._take()
            return Requirement(self._key(), "absent")
        key = self._key()
        match self._peek():
            case None | ",":
                return Requirement(key, "exists")
            case "=" | "==":
                self._take()
                return Requirement(key, "in", (self._value(),))
            case "!=":
                self._take()
                return Requirement(key, "notin", (self._value(),))
            case "in" | "notin":
                operator = self._take()
                return Requirement(key, operator, self._values())
            case ">" | "<":
                operator = "gt" if self._take() == ">" else "lt"
                return Requirement(key, operator, (self._value(),))
        raise self._error(f"found {self._peek()!r}, expected an operator or the end")

    def _values(self) -> tuple[str, ...]:
        self._expect("(")
        values = [self._value()]
        while self._peek() == ",":
            self._take()
            values.append(self._value())
        self._expect(")")
        return tuple(values)

    def _key(self) -> str:
        key = self._take()
        if not _KEY.fullmatch(key):
            raise self._error(f"{key!r} is not a label key")
        return key

    def _value(self) -> str:
        if self._peek() in (None, ",", ")"):
            return ""
        value = self._take()
        if not _VALUE.fullmatch(value) or len(value) > 63:
            raise self._error(f"{value!r} is not a label value")
        return value

    def _peek(self) -> str | None:
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def _take(self) -> str:
        token = self._peek()
        if token is None:
            raise self._error("it ends too early")
        self._position += 1
        return str(token)

    def _expect(self, wanted: str) -> None:
        token = self._take()
        if token != wanted:
            raise self._error(f"found {token!r}, expected {wanted!r}")

    def _error(self, detail: str) -> BadRequestError:
        return BadRequestError(f"unable to parse requirement: label selector {self._text!r}: {detail}")


def labels(text: str | None) -> Predicate | None:
    """The predicate of a label selector over objects, None if it selects everything."""
    requirements = parse_labels(text or "")
    if not requirements:
        return None
    return lambda object: _labels_match(requirements, object["metadata"].get("labels") or {})


def _labels_match(requirements: tuple[Requirement, ...], found: Mapping[str, str]) -> bool:
    return all(requirement.matches(found.get(requirement.key)) for requirement in requirements)


def structured(selector: Mapping[str, Any] | None) -> Callable[[Mapping[str, str]], bool]:
    """The predicate of a metav1.LabelSelector over labels. An empty one selects everything, None nothing."""
    if selector is None:
        return lambda found: False
    operators = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "absent"}
    requirements = [Requirement(key, "in", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    requirements += [
        Requirement(term["key"], operators[term["operator"]], tuple(term.get("values") or ()))
        for term in selector.get("matchExpressions") or ()
    ]
    return lambda found: _labels_match(tuple(requirements), found)


def fields(kind: KindInfo, text: str | None) -> Predicate | None:
    """The predicate of a field selector, None if it selects everything. BadRequestError for a field it can't be by."""
    terms = [_field_term(kind, term) for term in (text or "").split(",") if term]
    if not terms:
        return None
    return lambda object: all((_field(object, path) == value) == equal for path, value, equal in terms)


def only_name(text: str | None) -> str:
    """The one object's name that a field selector asks for (`metadata.name=x`), "" if it asks for none."""
    for term in (text or "").split(","):
        path, found, value = term.partition("=")
        if found and path == "metadata.name":
            return value.removeprefix("=")
    return ""


def _field_term(kind: KindInfo, term: str) -> tuple[str, str, bool]:
    for operator, equal in (("!=", False), ("==", True), ("=", True)):
        path, found, value = term.partition(operator)
        if found:
            if path not in supported_fields(kind):
                raise BadRequestError(
                    f'Unable to find "{kind.api_version}, Resource={kind.plural}" that match label selector "", '
                    f'field selector "{term}": field label not supported: {path}'
                )
            return path, value, equal
    raise BadRequestError(f"invalid field selector {term!r}: expected <field>=<value> or <field>!=<value>")


def supported_fields(kind: KindInfo) -> tuple[str, ...]:
    """The fields that objects of this kind can be selected by."""
    names = ("metadata.name", "metadata.namespace") if kind.namespaced else ("metadata.name",)
    if kind.definition is None:
        return names + _FIELDS_OF_KIND.get(kind.stored_as, ())
    return names + tuple(
        field["jsonPath"].lstrip(".")
        for version in kind.definition["spec"]["versions"]
        if version["name"] == kind.version
        for field in version.get("selectableFields") or ()
    )


def _field(object: Mapping[str, Any], path: str) -> str:
    if path == "source":
        return str((object.get("source") or {}).get("component") or object.get("reportingComponent") or "")
    steps = path.split(".")
    # Events are stored as core/v1; these are events.k8s.io's names for the same fields.
    steps[0] = {"regarding": "involvedObject", "reportingController": "reportingComponent"}.get(steps[0], steps[0])
    value: Any = object
    for step in steps:
        value = value.get(step) if isinstance(value, Mapping) else None
    if value is None:
        return "false" if path in _FALSE_WHEN_MISSING else ""
    return str(value).lower() if isinstance(value, bool) else str(value)
