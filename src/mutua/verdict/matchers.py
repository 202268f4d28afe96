"""A policy's strings as tests of a request's strings. Each says what the matcher of the same name in `envoy` says."""

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, Final

from mutua.errors import InvalidInputError
from mutua.verdict.request import Address

Test = Callable[[str], bool]

SCHEME: Final = "spiffe://"
MAX_PORT: Final = 65535


def text(value: str, *, ignore_case: bool = False) -> Test:
    """`*` is anything but nothing, `*x` a suffix, `x*` a prefix, else exactly the value."""
    if ignore_case:
        test = text(value.lower())
        return lambda given: test(given.lower())
    if value == "*":
        return _something
    if value.startswith("*"):
        suffix = value[1:]
        return lambda given: given.endswith(suffix)
    if value.endswith("*"):
        prefix = value[:-1]
        return lambda given: given.startswith(prefix)
    return lambda given: given == value


def identity(value: str) -> Test:
    """A SPIFFE id written without its scheme."""
    if value == "*":
        return _something
    if value.startswith("*"):
        return glob((SCHEME, value[1:]))
    return text(SCHEME + value)


def namespace(value: str) -> Test:
    """The namespace of an identity; `*` inside stands for anything."""
    return glob(("", *f"/ns/{value}/".split("*"), ""))


def service_account(value: str, policy_namespace: str) -> Test:
    """`namespace/account`, or an account of the policy's own namespace."""
    first, slash, second = value.partition("/")
    owner, account = (first, second) if slash else (policy_namespace, first)
    expression = re.compile(f"{SCHEME}.+/ns/{re.escape(owner)}/(.+/|)sa/{re.escape(account)}(/.+)?")
    return lambda given: expression.fullmatch(given) is not None


def trust_domain(value: str) -> Test:
    """The trust domain of an identity; `*` inside stands for anything within the trust domain's name."""
    if value == "*":
        return lambda given: given.startswith(SCHEME) and _something(given[len(SCHEME) :])
    if "*" not in value:
        return text(f"{SCHEME}{value}/*")
    wanted = [glob(segment.split("*")) for segment in value.split("/")]

    def test(given: str) -> bool:
        segments = given.removeprefix(SCHEME).split("/") if given.startswith(SCHEME) else []
        return len(segments) > len(wanted) and all(fits(one) for fits, one in zip(wanted, segments, strict=False))

    return test


def glob(pieces: Sequence[str]) -> Test:
    """Whether a text consists of these pieces in order, with anything between them."""
    first, *between = pieces
    if not between:
        return lambda given: given == first
    last = between.pop()

    def test(given: str) -> bool:
        end = len(given) - len(last)
        if len(first) > end or not (given.startswith(first) and given.endswith(last)):
            return False
        position = len(first)
        for piece in between:
            found = given.find(piece, position, end)
            if found < 0:
                return False
            position = found + len(piece)
        return True

    return test


def address_range(value: str) -> Callable[[Address], bool]:
    """An address or a CIDR range; host bits are ignored. Raises InvalidInputError."""
    try:
        network = ip_network(value, strict=False)
    except ValueError as error:
        raise InvalidInputError(f"{value!r} is not an IP address or CIDR range") from error
    version, first, mask = network.version, int(network.network_address), int(network.netmask)
    return lambda given: given[0] == version and given[1] & mask == first


def port(value: str) -> int:
    """A port number. Raises InvalidInputError."""
    if not value.isascii() or not value.isdigit() or int(value) > MAX_PORT:
        raise InvalidInputError(f"{value!r} is not a port number")
    return int(value)


def string(test: Test) -> Callable[[Any], bool]:
    """Metadata that is such a string."""
    return lambda given: isinstance(given, str) and test(given)


def element(test: Test) -> Callable[[Any], bool]:
    """Metadata that is a list with such a string in it."""
    return lambda given: isinstance(given, list) and any(isinstance(item, str) and test(item) for item in given)


def string_or_element(test: Test) -> Callable[[Any], bool]:
    """Metadata that is such a string, or a list with such a string in it."""
    alone, among = string(test), element(test)
    return lambda given: alone(given) or among(given)


def at(path: Sequence[str], data: Mapping[str, Any] | None) -> Any:
    """What is found behind these keys; None if one of them is missing."""
    found: Any = data
    for key in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(key)
    return found


def _something(given: str) -> bool:
    return given != ""
