"""The words of table cells: ages, selectors, lists that end in "more". Source: kubectl's and the server's printers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Object = dict[str, Any]
Cell = str | int | bool | None

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a metav1.Table. Priority 0 is always shown, 1 with `-o wide`."""

    name: str
    type: str = "string"
    priority: int = 0
    format: str = ""
    description: str = ""

    def as_json(self) -> Object:
        """The column as TableColumnDefinition."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


@dataclass(frozen=True, slots=True)
class Printer:
    """How one kind is shown: its columns, and an object's cells at a moment (for ages)."""

    columns: tuple[Column, ...]
    cells: Callable[[Object, datetime], list[Cell]]


NAME = Column("Name", format="name", description="Name must be unique within a namespace.")
AGE = Column("Age", description="Time since the object was created.")
CREATED_AT = Column("Created At", "date", description="When the object was created.")


def wide(name: str, type_: str = "string") -> Column:
    """A column that only `-o wide` shows."""
    return Column(name, type_, priority=1)


def name_of(item: Object) -> str:
    """The object's name."""
    return str(item["metadata"].get("name") or "")


def age(item: Object, now: datetime) -> str:
    """How long the object exists."""
    return since(item["metadata"].get("creationTimestamp"), now)


def since(timestamp: str | None, now: datetime) -> str:
    """How long ago a metav1.Time (or MicroTime) was."""
    if not timestamp:
        return UNKNOWN
    return duration((now - datetime.fromisoformat(timestamp)).total_seconds())


def duration(seconds: float) -> str:
    """Seconds in two units at most, the coarser the longer: `95s`, `4m10s`, `7h5m`, `3d4h`, `2y10d`.

    Source: apimachinery/pkg/util/duration.HumanDuration.
    """
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 120:
        return f"{max(whole, 0)}s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 10:
        return _pair(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _pair(hours // 24, "d", hours % 24, "h")
    days = hours // 24
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _pair(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _pair(first: int, first_unit: str, second: int, second_unit: str) -> str:
    return f"{first}{first_unit}{second}{second_unit}" if second else f"{first}{first_unit}"


def selector(value: Object | None) -> str:
    """A metav1.LabelSelector as kubectl writes it."""
    if not value:
        return NONE
    parts = [f"{key}={text}" for key, text in sorted((value.get("matchLabels") or {}).items())]
    for rule in sorted(value.get("matchExpressions") or (), key=lambda rule: str(rule.get("key"))):
        values = ",".join(sorted(rule.get("values") or ()))
        match rule.get("operator"):
            case "In":
                parts.append(f"{rule['key']} in ({values})")
            case "NotIn":
                parts.append(f"{rule['key']} notin ({values})")
            case "Exists":
                parts.append(str(rule["key"]))
            case "DoesNotExist":
                parts.append(f"!{rule['key']}")
    return ",".join(parts) or NONE


def labels(value: dict[str, str] | None) -> str:
    """A plain map of labels, such as a Service's selector."""
    return ",".join(f"{key}={text}" for key, text in sorted((value or {}).items())) or NONE


def container_names(spec: Object) -> str:
    """The containers' names of a pod specification."""
    return ",".join(container.get("name", "") for container in spec.get("containers") or ())


def container_images(spec: Object) -> str:
    """The containers' images of a pod specification."""
    return ",".join(container.get("image", "") for container in spec.get("containers") or ())


def shortened(items: Sequence[str], most: int = 3) -> str:
    """The first few items, and how many more there are."""
    if not items:
        return NONE
    shown = ",".join(items[:most])
    return f"{shown} + {len(items) - most} more..." if len(items) > most else shown
