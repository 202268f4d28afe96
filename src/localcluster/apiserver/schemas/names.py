"""The syntax of names, labels, annotations, keys and ports, with Kubernetes' messages.

Each function returns the messages of the rules that a value breaks; empty: the value is good.
Source: k8s.io/apimachinery/pkg/util/validation.
"""

import re
from typing import Any

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DNS_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"
_PATH_SEGMENT = re.compile(r"[/%]")


def _syntax(text: str, *examples: str, pattern: str) -> str:
    listed = ",  or ".join(f"'{example}'" for example in examples)
    return f"{text} (e.g. {listed}, regex used for validation is '{pattern}')"


def _too_long(value: str, maximum: int) -> list[str]:
    return [f"must be no more than {maximum} bytes"] if len(value) > maximum else []


def label(value: str) -> list[str]:
    """RFC 1123 label: namespaces, containers, volumes."""
    problems = _too_long(value, 63)
    if not re.fullmatch(_LABEL, value):
        problems.append(
            _syntax(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
                "and must start and end with an alphanumeric character",
                "my-name",
                "123-abc",
                pattern=_LABEL,
            )
        )
    return problems


def subdomain(value: str) -> list[str]:
    """RFC 1123 subdomain: most objects' names."""
    problems = _too_long(value, 253)
    if not re.fullmatch(_SUBDOMAIN, value):
        problems.append(
            _syntax(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
                "and must start and end with an alphanumeric character",
                "example.com",
                pattern=_SUBDOMAIN,
            )
        )
    return problems


def dns_1035_label(value: str) -> list[str]:
    """RFC 1035 label: services."""
    problems = _too_long(value, 63)
    if not re.fullmatch(_DNS_1035, value):
        problems.append(
            _syntax(
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
                "start with an alphabetic character, and end with an alphanumeric character",
                "my-name",
                "abc-123",
                pattern=_DNS_1035,
            )
        )
    return problems


def path_segment(value: str) -> list[str]:
    """What may stand in a URL as one segment: RBAC objects' names."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{found[0]}'" for found in _PATH_SEGMENT.finditer(value)][:1]


def qualified_name(value: str) -> list[str]:
    """The keys of labels and annotations: `name` or `prefix/name`."""
    parts = value.split("/")
    if len(parts) > 2:
        text = _syntax(
            "a qualified name must consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character",
            "MyName",
            "my.name",
            "123-abc",
            pattern=_QUALIFIED,
        )
        return [f"{text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    problems: list[str] = []
    if len(parts) == 2:
        problems += (
            ["prefix part must be non-empty"] if not parts[0] else [f"prefix part {p}" for p in subdomain(parts[0])]
        )
    name = parts[-1]
    if not name:
        return [*problems, "name part must be non-empty"]
    problems += [f"name part {problem}" for problem in _too_long(name, 63)]
    if not re.fullmatch(_QUALIFIED, name):
        problems.append(
            _syntax(
                "name part must consist of alphanumeric characters, '-', '_' or '.', "
                "and must start and end with an alphanumeric character",
                "MyName",
                "my.name",
                "123-abc",
                pattern=_QUALIFIED,
            )
        )
    return problems


def label_value(value: str) -> list[str]:
    """The values of labels."""
    problems = _too_long(value, 63)
    if not re.fullmatch(_LABEL_VALUE, value):
        problems.append(
            _syntax(
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
                "and must start and end with an alphanumeric character",
                "MyValue",
                "my_value",
                "12345",
                pattern=_LABEL_VALUE,
            )
        )
    return problems


def config_key(value: str) -> list[str]:
    """The keys of ConfigMaps and Secrets."""
    problems = _too_long(value, 253)
    if not re.fullmatch(_CONFIG_KEY, value):
        problems.append(
            _syntax(
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
                "key.name",
                "KEY_NAME",
                "key-name",
                pattern=_CONFIG_KEY,
            )
        )
    elif value in (".", "..") or value.startswith(".."):
        problems.append(f"must not be '{value}'" if value in (".", "..") else "must not start with '..'")
    return problems


def port_name(value: str) -> list[str]:
    """The name of a container's port (RFC 6335 service name)."""
    problems: list[str] = []
    if len(value) > 15:
        problems.append("must be no more than 15 bytes")
    if not re.fullmatch(r"[-a-z0-9]*", value):
        problems.append("must contain only alphanumeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", value):
        problems.append("must contain at least one letter (a-z)")
    if "--" in value:
        problems.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        problems.append("must not begin or end with a hyphen")
    return problems


def port_number(value: Any) -> list[str]:
    """A TCP or UDP port."""
    if isinstance(value, int) and 1 <= value <= 65535:
        return []
    return ["must be between 1 and 65535, inclusive"]


def environment_variable(value: str) -> list[str]:
    """The name of an environment variable: printable ASCII without '='."""
    if value and all(" " <= c <= "~" and c != "=" for c in value):
        return []
    return [
        "a valid environment variable name must consist only of printable ASCII characters other than '='",
    ]
