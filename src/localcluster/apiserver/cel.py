"""The Common Expression Language as Kubernetes speaks it: expressions compiled once, evaluated on JSON.

The language is Google's own implementation (`cel-expr-python`) with its string, math, optional and binding extensions.
Kubernetes' libraries for lists, regular expressions and addresses are added here; its `quantity`, `url`, `ip` and
`authorizer` types are not, and an expression that uses them is refused when it is written.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from cel_expr_python import cel as cel_types


class CelError(Exception):
    """An expression that can't be compiled, or fails on its input; the text says why."""


class Program:
    """A compiled expression."""

    def __init__(self, compiled: cel_types.Expression) -> None:
        """Use `program`."""
        self._compiled = compiled

    @property
    def result_type(self) -> str:
        """BOOL, STRING …, or DYN where only the input tells."""
        return str(self._compiled.return_type().name())

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """The result as a plain value. CelError if the evaluation fails (a missing key, an overflow)."""
        from cel_expr_python import cel

        try:
            result = self._compiled.eval(data=dict(variables))
        except RuntimeError as error:
            raise CelError(str(error)) from error
        if result.type() == cel.Type.ERROR:
            raise CelError(_reason(str(result.plain_value())))
        return result.plain_value()


@lru_cache(maxsize=4096)
def program(expression: str, variables: tuple[str, ...]) -> Program:
    """Compile an expression over variables of any type. CelError with what is wrong, and where."""
    try:
        return Program(_environment(variables).compile(expression))
    except RuntimeError as error:
        raise CelError(f"compilation failed: {_reason(str(error))}") from error


def moment(value: datetime) -> Any:
    """A point in time as an input of expressions; without time zone it is UTC."""
    from google.protobuf.timestamp_pb2 import Timestamp

    stamp = Timestamp()
    stamp.FromDatetime(value)
    return stamp


def duration(value: timedelta) -> Any:
    """A length of time as an input of expressions."""
    from google.protobuf.duration_pb2 import Duration

    length = Duration()
    length.FromTimedelta(value)
    return length


def _reason(text: str) -> str:
    code, separator, rest = text.partition(": ")
    plain = rest if separator and code.isupper() else text
    named = re.sub(r'Key not found in map : "?([^"]*)"?', r"no such key: \1", plain)
    return named.removesuffix(" [INVALID_ARGUMENT]").strip()


@cache
def _environment(variables: tuple[str, ...]) -> cel_types.Env:
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_bindings, ext_encoders, ext_math, ext_optional, ext_strings

    extensions = [
        ext_strings.ExtStrings(),
        ext_math.ExtMath(),
        ext_optional.ExtOptional(),
        ext_bindings.ExtBindings(),
        ext_encoders.ExtEncoders(),
    ]
    types = dict.fromkeys(variables, cel.Type.DYN)
    return cel.NewEnv(variables=types, extensions=extensions, functions=_functions())


def _functions() -> list[cel_types.FunctionDecl]:
    """Kubernetes' list, regex, URL and address libraries (apiserver/pkg/cel/library)."""
    from cel_expr_python import cel

    from localcluster.apiserver.schemas import quantities

    types = cel.Type
    text, truth, anything = types.STRING, types.BOOL, types.DYN
    items = types.List(anything)

    def declared(
        name: str, implementation: Callable[..., Any], result: Any, *parameters: Any
    ) -> cel_types.FunctionDecl:
        overload = cel.Overload(
            id=f"kubernetes_{name}_{len(parameters)}",
            return_type=result,
            parameters=list(parameters),
            is_member=parameters[0] == items or name in ("find", "findAll"),
            impl=implementation,
        )
        return cel.FunctionDecl(name, [overload])

    return [
        declared("isSorted", lambda found: _sorted(_plain(found)), truth, items),
        declared("sum", lambda found: sum(_plain(found), start=_zero(_plain(found))), anything, items),
        declared("min", lambda found: min(_plain(found)), anything, items),
        declared("max", lambda found: max(_plain(found)), anything, items),
        declared("find", _find, text, text, text),
        declared("findAll", _find_all, types.List(text), text, text),
        declared("isURL", _is_url, truth, text),
        declared("isIP", lambda value: _parses(ipaddress.ip_address, value), truth, text),
        declared("isCIDR", lambda value: _parses(ipaddress.ip_interface, value) and "/" in value, truth, text),
        declared("isQuantity", lambda value: _parses(quantities.parse, value), truth, text),
    ]


def _plain(values: list[Any]) -> list[Any]:
    return [value.plain_value() if hasattr(value, "plain_value") else value for value in values]


def _zero(values: list[Any]) -> Any:
    return timedelta() if values and isinstance(values[0], timedelta) else 0


def _sorted(values: list[Any]) -> bool:
    return all(first <= second for first, second in pairwise(values))


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found[0] if found else ""


def _find_all(text: str, pattern: str) -> list[str]:
    return [found[0] for found in re.finditer(pattern, text)]


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme and parts.netloc) or text.startswith("/")


def _parses(read: Callable[[str], Any], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True
