"""Reading objects: bytes or parsed JSON to typed objects. Whatever a user wrote, nothing is raised."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, Generic, TypeVar

import msgspec

from mutua.api import access_log_format, kinds
from mutua.api.core import decode_extension
from mutua.api.findings import Finding, Violation, error, warning
from mutua.api.kinds import AnyObject, Kind
from mutua.api.meshconfig import CIPHER_SUITES, ECDH_CURVES, MeshConfig
from mutua.api.meta import ObjectMeta
from mutua.errors import InvalidInputError
from mutua.spiffe import TrustDomain

T = TypeVar("T")

_MAX_MISTAKES: Final = 64  # per object; each costs another pass over it
_ERROR_PATH: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN_FIELD: Final = re.compile(r"Object contains unknown field `(?P<field>.*)`")
_MISSING_FIELD: Final = re.compile(r"Object missing required field `(?P<field>.*)`")
_STEP: Final = re.compile(r"\.(?P<field>[^.\[]+)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")


class Decoded(msgspec.Struct, Generic[T], frozen=True):
    """What was read. `value` is None if it could not be; with findings and a value, unknown fields were left out."""

    value: T | None
    findings: tuple[Finding, ...] = ()


def from_json(kind: Kind, data: bytes) -> Decoded[AnyObject]:
    """Read one object of a known kind from the API's bytes. Kinds of others ignore unknown fields."""
    if not kind.is_ours:
        try:
            return Decoded(_decoder(kind).decode(data))
        except (msgspec.ValidationError, ValueError):
            pass  # a null, or a real mistake: the slow way tells
    try:
        parsed = msgspec.json.decode(data)
    except msgspec.DecodeError as problem:
        return Decoded(None, (Finding(kind.name, "", "", "", f"is not JSON: {problem}"),))
    return from_mapping(kind, parsed)


def from_mapping(kind: Kind, data: object) -> Decoded[AnyObject]:
    """Read one object of a known kind from parsed JSON or YAML. Every mistake becomes a finding with its field path.

    The status of a kind of ours is nothing that the user wrote: it is left unread, whatever it is.
    """
    if kind.is_ours and isinstance(data, Mapping) and not _reads_status(kind, data):
        data = {field: part for field, part in data.items() if field != "status"}
    value, violations = _convert(data, kind.struct)
    namespace, name = _name_of(data)
    return Decoded(value, tuple(violation.about(kind.name, namespace, name) for violation in violations))


def any_from_mapping(data: object) -> Decoded[AnyObject]:
    """Read an object that says its kind itself; unknown kinds are a finding."""
    api_version, kind_name = (
        (str(data.get("apiVersion", "")), str(data.get("kind", ""))) if isinstance(data, Mapping) else ("", "")
    )
    kind = kinds.by_api_version(api_version, kind_name)
    if kind is None:
        namespace, name = _name_of(data)
        message = f"no kind {kind_name!r} in version {api_version!r}"
        return Decoded(None, (Finding(kind_name, namespace, name, "kind", message),))
    return from_mapping(kind, data)


def mesh_config(data: object) -> tuple[MeshConfig, tuple[Finding, ...]]:
    """Read the mesh config from parsed YAML. A field that cannot be read keeps its default, with a finding."""
    value, violations = _convert(data if data is not None else {}, MeshConfig, drop_mistakes=True)
    config = value if value is not None else MeshConfig()
    violations.extend(_trust_domains(config))
    violations.extend(_tls(config))
    violations.extend(_access_log(config))
    return config, tuple(violation.about("MeshConfig", "", "mesh") for violation in violations)


def _trust_domains(config: MeshConfig) -> Iterator[Violation]:
    """Names that could not stand in an identity. They are left out of what the mesh believes."""
    aliases = ((f"trustDomainAliases[{index}]", name) for index, name in enumerate(config.trust_domain_aliases))
    for field, name in (("trustDomain", config.trust_domain), *aliases):
        try:
            TrustDomain.parse(name)
        except InvalidInputError as problem:
            yield error(field, problem.message, problem.hint)


def _reads_status(kind: Kind, data: Mapping[Any, Any]) -> bool:
    return "status" in kind.struct.__struct_fields__ and isinstance(data.get("status"), Mapping)


def _tls(config: MeshConfig) -> Iterator[Violation]:
    """Names that Envoy does not know, or that give away past traffic. They are left out of what sidecars speak."""
    mesh, others = config.mesh_mtls, config.tls_defaults
    for field, names, known in (
        ("meshMTLS.cipherSuites", mesh.cipher_suites, CIPHER_SUITES),
        ("meshMTLS.ecdhCurves", mesh.ecdh_curves, ECDH_CURVES),
        ("tlsDefaults.cipherSuites", others.cipher_suites, CIPHER_SUITES),
        ("tlsDefaults.ecdhCurves", others.ecdh_curves, ECDH_CURVES),
    ):
        for index, name in enumerate(names):
            if name not in known:
                ours = "" if known & set(names) else "; none is left, so our own are used"
                message = f"{name!r} is not used{ours}"
                yield error(f"{field}[{index}]", message, f"known are {', '.join(sorted(known))}")


def _access_log(config: MeshConfig) -> Iterator[Violation]:
    """A format that Envoy would refuse, and with it every listener. The default stands in for it."""
    for problem in access_log_format.mistakes(config.access_log_format, config.access_log_encoding):
        yield error("accessLogFormat", problem, "the default format is used until it is mended")


@cache
def _decoder(kind: Kind) -> msgspec.json.Decoder[AnyObject]:
    return msgspec.json.Decoder(kind.struct, dec_hook=decode_extension)


def _convert(data: object, struct: type[T], *, drop_mistakes: bool = False) -> tuple[T | None, list[Violation]]:
    """Convert, and after each mistake take the offending field out and try again, so that all are found at once."""
    remaining = _without_nulls(data)
    violations: list[Violation] = []
    only_unknown_fields = True
    for _ in range(_MAX_MISTAKES):
        try:
            value = msgspec.convert(remaining, struct, dec_hook=decode_extension)
        except msgspec.ValidationError as problem:
            parts = _ERROR_PATH.match(str(problem))
            what, path = (parts["what"], parts["path"] or "$") if parts else (str(problem), "$")
            unknown, missing = _UNKNOWN_FIELD.fullmatch(what), _MISSING_FIELD.fullmatch(what)
            if unknown:
                path = f"{path}.{unknown['field']}"
                make = warning if drop_mistakes else error
                violations.append(make(_readable(path), f"unknown field {unknown['field']!r}"))
            elif missing:
                path = f"{path}.{missing['field']}"
                violations.append(error(_readable(path), "is required"))
                only_unknown_fields = False
            else:
                violations.append(error(_readable(path), _in_words(what, remaining, path)))
                only_unknown_fields = False
            if missing or not _remove(remaining, path):
                break
        else:
            usable = only_unknown_fields or drop_mistakes
            return (value if usable else None), violations
    return None, violations


def _without_nulls(value: Any) -> Any:
    """A copy without nulls in objects: in JSON of Kubernetes and protobuf a null field is a field not given."""
    if isinstance(value, Mapping):
        return {str(key): _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_nulls(item) for item in value]
    return value


def _remove(data: Any, path: str) -> bool:
    """Take the value at a msgspec path out of data. False if the path does not lead to one value."""
    steps = _steps(path)
    if not steps:
        return False
    try:
        for step in steps[:-1]:
            data = data[step]
        del data[steps[-1]]
    except (KeyError, IndexError, TypeError):
        return False
    return True


def _steps(path: str) -> list[str | int | None]:
    """`$.a[0][...]` as ["a", 0, None]; None stands for a key that msgspec does not name."""
    return [
        match["field"] if match["field"] is not None else int(match["index"]) if match["index"] else None
        for match in _STEP.finditer(path.removeprefix("$"))
    ]


def _readable(path: str) -> str:
    return path.removeprefix("$").removeprefix(".").replace("[...]", "[*]")


def _in_words(what: str, data: Any, path: str) -> str:
    """The mistake as Kubernetes words it where it has a form for it."""
    if what.startswith("Invalid enum value"):
        value: Any = data
        for step in _steps(path):
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return what
        return f'Unsupported value: "{value}"'
    return what[:1].lower() + what[1:]


def _name_of(data: object) -> tuple[str, str]:
    """Namespace and name of whatever was given, as far as it has them."""
    metadata = data.get("metadata") if isinstance(data, Mapping) else None
    if not isinstance(metadata, Mapping):
        return "", ""
    try:
        read = msgspec.convert({key: str(metadata.get(key) or "") for key in ("namespace", "name")}, ObjectMeta)
    except msgspec.ValidationError:
        return "", ""
    return read.namespace, read.name


__all__ = ["Decoded", "any_from_mapping", "from_json", "from_mapping", "mesh_config"]
