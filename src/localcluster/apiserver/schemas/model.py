"""The shapes of Kubernetes' own kinds, read from lightkube-models' generated sources.

The modules are parsed, not imported: importing them would load a whole Kubernetes client (120 ms and 300 modules)
into a server that only needs field names and types.
"""

import ast
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

Category = Literal[
    "string",
    "integer",
    "number",
    "boolean",
    "time",
    "quantity",
    "int-or-string",
    "bytes",
    "any",
    "map",
    "list",
    "object",
]


@dataclass(frozen=True, slots=True)
class Type:
    """The type of a field. `element` is set for lists and maps, `struct` (such as `core_v1.Container`) for objects."""

    category: Category
    element: "Type | None" = None
    struct: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct, by its JSON name."""

    name: str
    type: Type
    required: bool  # by Kubernetes' OpenAPI document: the Go field has no `omitempty`


@dataclass(frozen=True, slots=True)
class Struct:
    """One Go struct of Kubernetes' API; `raw_documentation` is the model's docstring."""

    name: str
    fields: Mapping[str, Field]
    raw_documentation: str = field(repr=False, default="")


_STRING = Type("string")
_SCALARS: dict[str, Type] = {
    "str": _STRING,
    "int": Type("integer"),
    "float": Type("number"),
    "bool": Type("boolean"),
    "meta_v1.Time": Type("time"),
    "meta_v1.MicroTime": Type("time"),
    "meta_v1.FieldsV1": Type("any"),
    "meta_v1.Patch": Type("any"),
    "resource.Quantity": Type("quantity"),
    "util_intstr.IntOrString": Type("int-or-string"),
    "runtime.RawExtension": Type("any"),
    "apiextensions_v1.JSON": Type("any"),
    "apiextensions_v1.JSONSchemaPropsOrArray": Type("any"),
    "apiextensions_v1.JSONSchemaPropsOrBool": Type("any"),
    "apiextensions_v1.JSONSchemaPropsOrStringArray": Type("any"),
}

# The models say only `dict`; most are string to string. Source: k8s.io/api, the Go types of these fields.
_QUANTITIES = Type("map", Type("quantity"))
_SCHEMAS = Type("map", Type("object", struct="apiextensions_v1.JSONSchemaProps"))
_FIELD_TYPES: dict[tuple[str, str], Type] = {
    ("core_v1.Secret", "data"): Type("map", Type("bytes")),
    ("core_v1.ConfigMap", "binaryData"): Type("map", Type("bytes")),
    ("core_v1.ContainerStatus", "allocatedResources"): _QUANTITIES,
    ("core_v1.PodStatus", "allocatedResources"): _QUANTITIES,
    ("core_v1.ResourceRequirements", "limits"): _QUANTITIES,
    ("core_v1.ResourceRequirements", "requests"): _QUANTITIES,
    ("core_v1.VolumeResourceRequirements", "limits"): _QUANTITIES,
    ("core_v1.VolumeResourceRequirements", "requests"): _QUANTITIES,
    ("core_v1.PodSpec", "overhead"): _QUANTITIES,
    ("core_v1.NodeStatus", "allocatable"): _QUANTITIES,
    ("core_v1.NodeStatus", "capacity"): _QUANTITIES,
    ("core_v1.PersistentVolumeSpec", "capacity"): _QUANTITIES,
    ("core_v1.PersistentVolumeClaimStatus", "allocatedResources"): _QUANTITIES,
    ("core_v1.PersistentVolumeClaimStatus", "capacity"): _QUANTITIES,
    ("core_v1.LimitRangeItem", "default"): _QUANTITIES,
    ("core_v1.LimitRangeItem", "defaultRequest"): _QUANTITIES,
    ("core_v1.LimitRangeItem", "max"): _QUANTITIES,
    ("core_v1.LimitRangeItem", "maxLimitRequestRatio"): _QUANTITIES,
    ("core_v1.LimitRangeItem", "min"): _QUANTITIES,
    ("core_v1.ResourceQuotaSpec", "hard"): _QUANTITIES,
    ("core_v1.ResourceQuotaStatus", "hard"): _QUANTITIES,
    ("core_v1.ResourceQuotaStatus", "used"): _QUANTITIES,
    ("policy_v1.PodDisruptionBudgetStatus", "disruptedPods"): Type("map", Type("time")),
    ("apiextensions_v1.JSONSchemaProps", "properties"): _SCHEMAS,
    ("apiextensions_v1.JSONSchemaProps", "patternProperties"): _SCHEMAS,
    ("apiextensions_v1.JSONSchemaProps", "definitions"): _SCHEMAS,
    ("apiextensions_v1.JSONSchemaProps", "dependencies"): Type("map", Type("any")),
    ("authentication_v1.UserInfo", "extra"): Type("map", Type("list", _STRING)),
    ("authorization_v1.SubjectAccessReviewSpec", "extra"): Type("map", Type("list", _STRING)),
    ("certificates_v1.CertificateSigningRequestSpec", "extra"): Type("map", Type("list", _STRING)),
}
# Go's []byte, which the models call strings.
_BYTES = {
    ("admissionregistration_v1.WebhookClientConfig", "caBundle"),
    ("apiextensions_v1.WebhookClientConfig", "caBundle"),
    ("apiregistration_v1.APIServiceSpec", "caBundle"),
    ("certificates_v1.CertificateSigningRequestSpec", "request"),
    ("certificates_v1.CertificateSigningRequestStatus", "certificate"),
}


@cache
def struct_of_kind(group: str, version: str, kind: str) -> Struct | None:
    """The shape of a built-in kind, or None if the models do not know it (a custom resource)."""
    return struct(f"{module_name(group, version)}.{kind}")


@cache
def struct(name: str) -> Struct | None:
    """The shape called `module.Class`, such as `core_v1.Pod`; None if there is none."""
    module, _, class_name = name.partition(".")
    return _module(module).get(class_name)


def module_name(group: str, version: str) -> str:
    """The models' module of an API group and version, by the group's first label: `rbac_v1`, `core_v1`."""
    return f"{group.partition('.')[0] or 'core'}_{version}"


@cache
def documentation(name: str) -> tuple[str, Mapping[str, str]]:
    """A struct's description and its fields' descriptions, by JSON name. Empty for an unknown struct."""
    shape = struct(name)
    if shape is None:
        return "", {}
    head, _, parameters = shape.raw_documentation.partition("**parameters**")
    fields: dict[str, str] = {}
    for match in _PARAMETER.finditer(parameters):
        # Names that Python reserves carry an underscore there (`continue_`).
        fields[match["name"].rstrip("_")] = " ".join(match["text"].split())
    return _paragraphs(head), fields


_PARAMETER = re.compile(
    r"^ *\* \*\*(?P<name>\w+)\*\* ``[^`]*`` - ?(?P<text>.*?)(?=^ *\* \*\*\w+\*\* ``|\Z)", re.M | re.S
)


def _paragraphs(text: str) -> str:
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


@cache
def _models_folder() -> Path:
    found = importlib.util.find_spec("lightkube")
    # lightkube and lightkube-models share one package folder, so the first entry that has the models is the one.
    for location in (found.submodule_search_locations or ()) if found else ():
        folder = Path(location) / "models"
        if folder.is_dir():
            return folder
    raise RuntimeError("the package lightkube-models is not installed: run `pip install lightkube-models`")


@cache
def _module(module: str) -> Mapping[str, Struct]:
    path = _models_folder() / f"{module}.py"
    if not module.isidentifier() or not path.is_file():
        return {}
    # `Name = Dict` in the models (an empty Go struct) has no entry: a struct without known fields may hold anything.
    structs: dict[str, Struct] = {}
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.ClassDef):
            structs[node.name] = _struct(module, node)
    return structs


def _struct(module: str, node: ast.ClassDef) -> Struct:
    name = f"{module}.{node.name}"
    fields: dict[str, Field] = {}
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            annotation = statement.annotation
            if not (isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)):
                continue
            json_name = _json_name(statement)
            fields[json_name] = Field(
                name=json_name,
                type=_field_type(module, name, json_name, annotation.value),
                required=statement.value is None,
            )
    return Struct(name=name, fields=fields, raw_documentation=ast.get_docstring(node, clean=False) or "")


def _json_name(statement: ast.AnnAssign) -> str:
    """The name on the wire: `field(metadata={"json": "not"})`, or the attribute's own."""
    if isinstance(statement.value, ast.Call):
        for node in ast.walk(statement.value):
            if isinstance(node, ast.Dict) and isinstance(node.values[0], ast.Constant):
                return str(node.values[0].value)
    assert isinstance(statement.target, ast.Name)  # noqa: S101 - for the type checker; the caller looked
    return statement.target.id


def _field_type(module: str, struct_name: str, field_name: str, annotation: str) -> Type:
    special = _FIELD_TYPES.get((struct_name, field_name))
    if special is not None:
        return special
    if (struct_name, field_name) in _BYTES:
        return Type("bytes")
    if annotation.startswith("Optional["):
        annotation = annotation.removeprefix("Optional[").removesuffix("]")
    return _type(module, annotation)


def _type(module: str, annotation: str) -> Type:
    if annotation.startswith("List["):
        return Type("list", _type(module, annotation.removeprefix("List[").removesuffix("]")))
    if annotation == "dict":
        return Type("map", _STRING)
    qualified = annotation if "." in annotation or annotation in _SCALARS else f"{module}.{annotation}"
    scalar = _SCALARS.get(qualified)
    return scalar if scalar is not None else Type("object", struct=qualified)
