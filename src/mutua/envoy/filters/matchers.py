"""A policy's strings as Envoy matchers. Everything that a user wrote is escaped before it becomes part of a pattern."""

import re
from ipaddress import ip_network
from typing import Any, Final

from envoy.config.core.v3 import address_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import metadata_pb2, regex_pb2, string_pb2, value_pb2
from google.protobuf import wrappers_pb2

from mutua.errors import InvalidInputError

ANYTHING: Final = ".+"
MAX_PORT: Final = 65535


def pattern(expression: str) -> Any:
    """A regular expression that must match the whole value."""
    return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=expression))


def text(value: str, *, ignore_case: bool = False) -> Any:
    """`*` is anything but nothing, `*x` a suffix, `x*` a prefix, else exactly the value."""
    if value == "*":
        return pattern(ANYTHING)
    if value.startswith("*"):
        return string_pb2.StringMatcher(suffix=value[1:], ignore_case=ignore_case)
    if value.endswith("*"):
        return string_pb2.StringMatcher(prefix=value[:-1], ignore_case=ignore_case)
    return string_pb2.StringMatcher(exact=value, ignore_case=ignore_case)


def identity(value: str) -> Any:
    """A SPIFFE id written without its scheme."""
    scheme = "spiffe://"
    if value == "*":
        return pattern(ANYTHING)
    if value.startswith("*"):
        return pattern(f"{scheme}.*{escaped(value[1:])}")
    if value.endswith("*"):
        return string_pb2.StringMatcher(prefix=scheme + value[:-1])
    return string_pb2.StringMatcher(exact=scheme + value)


def namespace(value: str) -> Any:
    """The namespace of an identity; `*` inside stands for anything."""
    return pattern(f".*/ns/{with_wildcards(value, '.*')}/.*")


def service_account(value: str, policy_namespace: str) -> Any:
    """`namespace/account`, or an account of the policy's own namespace."""
    first, slash, second = value.partition("/")
    owner, account = (first, second) if slash else (policy_namespace, first)
    return pattern(f"spiffe://.+/ns/{escaped(owner)}/(.+/|)sa/{escaped(account)}(/.+)?")


def trust_domain(value: str) -> Any:
    """The trust domain of an identity; `*` inside stands for anything within the trust domain's name."""
    if value == "*":
        return pattern("spiffe://.+")
    if "*" in value:
        return pattern(f"spiffe://{with_wildcards(value, '[^/]*')}/.*")
    return string_pb2.StringMatcher(prefix=f"spiffe://{value}/")


def header(name: str, value: str, *, ignore_case: bool = False) -> Any:
    """One header's value; `*` asks only whether the header is there, even if it is empty."""
    if value == "*":
        return route_components_pb2.HeaderMatcher(name=name, present_match=True)
    return route_components_pb2.HeaderMatcher(name=name, string_match=text(value, ignore_case=ignore_case))


def address_range(value: str) -> Any:
    """An address or a CIDR range; host bits are ignored. Raises InvalidInputError."""
    try:
        network = ip_network(value, strict=False)
    except ValueError as error:
        raise InvalidInputError(f"{value!r} is not an IP address or CIDR range") from error
    return address_pb2.CidrRange(
        address_prefix=str(network.network_address), prefix_len=wrappers_pb2.UInt32Value(value=network.prefixlen)
    )


def port(value: str) -> int:
    """A port number. Raises InvalidInputError."""
    if not value.isascii() or not value.isdigit() or int(value) > MAX_PORT:
        raise InvalidInputError(f"{value!r} is not a port number")
    return int(value)


def metadata(filter_name: str, path: tuple[str, ...], value: Any) -> Any:
    """A value that an earlier filter left for this request."""
    segments = [metadata_pb2.MetadataMatcher.PathSegment(key=key) for key in path]
    return metadata_pb2.MetadataMatcher(filter=filter_name, path=segments, value=value)


def string_value(matcher: Any) -> Any:
    """Metadata that is a string."""
    return value_pb2.ValueMatcher(string_match=matcher)


def list_value(matcher: Any) -> Any:
    """Metadata that is a list with such a string in it."""
    return value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=string_value(matcher)))


def string_or_list_value(matcher: Any) -> Any:
    """Metadata that is such a string, or a list with such a string in it."""
    either = value_pb2.OrMatcher(value_matchers=[string_value(matcher), list_value(matcher)])
    return value_pb2.ValueMatcher(or_match=either)


def escaped(literal: str) -> str:
    """`literal` as a regular expression of RE2."""
    return re.escape(literal)


def with_wildcards(value: str, wildcard: str) -> str:
    """`value` as a regular expression in which each `*` is `wildcard`."""
    return wildcard.join(map(escaped, value.split("*")))
