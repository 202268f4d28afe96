"""Whatever fits a kind's types can be decoded, completed, judged and shown; whatever does not is refused."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localcluster.apiserver import defaults, kinds, schemas, tables
from localcluster.apiserver.schemas import model

NOW = datetime(2026, 11, 23, tzinfo=UTC)
WORDS = st.sampled_from(
    ["", "a", "web", "A b", "-x", "None", "Always", "RollingUpdate", "10.0.0.1", "http", "25%", "../x"]
)
NUMBERS = st.sampled_from([-1, 0, 1, 80, 443, 70000, 2**40])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
KINDS = [kind for kind in kinds.BUILTIN if "list" in kind.verbs]


def values(type_: model.Type, depth: int) -> st.SearchStrategy[Any]:
    """Values of a field's type, ever shallower."""
    match type_.category:
        case "object":
            shape = model.struct(type_.struct)
            return st.just({}) if shape is None or depth <= 0 else objects(shape, depth - 1)
        case "list" if type_.element is not None:
            return st.lists(values(type_.element, depth), max_size=2)
        case "map" if type_.element is not None:
            return st.dictionaries(WORDS, values(type_.element, depth), max_size=2)
        case "integer":
            return NUMBERS
        case "number":
            return st.floats(allow_nan=False)
        case "boolean":
            return st.booleans()
        case "time":
            return st.just("2026-11-23T00:00:00Z")
        case "quantity":
            return st.sampled_from(["1", "100m", "64Mi", "-1", "1e3", ".5"])
        case "bytes":
            return st.sampled_from(["", "eA=="])
        case "int-or-string":
            return NUMBERS | WORDS
        case "any":
            return JSON
    return WORDS


def objects(shape: model.Struct, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of the struct's fields."""

    @st.composite
    def build(draw: st.DrawFn) -> dict[str, Any]:
        names = draw(st.lists(st.sampled_from(sorted(shape.fields)), max_size=6, unique=True)) if shape.fields else []
        return {name: draw(values(shape.fields[name].type, depth)) for name in names}

    return build()


def complete(kind: kinds.KindInfo, value: dict[str, Any]) -> dict[str, Any]:
    """With a name and a time, as the server sees to before controllers and tables do."""
    about = {**(value.get("metadata") or {}), "name": "x", "creationTimestamp": "2026-11-23T00:00:00Z"}
    return {**value, "metadata": about}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.resource)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_whatever_fits_the_types_is_judged(kind: kinds.KindInfo, data: st.DataObject) -> None:
    shape = model.struct_of_kind(kind.group, kind.version, kind.kind)
    assert shape is not None
    decoded = schemas.decode(kind, complete(kind, data.draw(objects(shape, 4))))
    value = defaults.apply(kind, decoded.object)

    assert decoded.type_errors == ()
    assert decoded.unknown_fields == ()
    assert defaults.apply(kind, value) == value
    found = schemas.validate(kind, value, "create")
    schemas.validate(kind, value, "update", value)
    if not found:
        tables.table(kind, [value], [], NOW)


@given(
    kind=st.sampled_from(KINDS), value=st.dictionaries(WORDS | st.sampled_from(["spec", "metadata", "status"]), JSON)
)
def test_whatever_does_not_is_refused(kind: kinds.KindInfo, value: dict[str, Any]) -> None:
    decoded = schemas.decode(kind, value)

    if not decoded.type_errors:
        assert schemas.decode(kind, decoded.object).object == decoded.object
