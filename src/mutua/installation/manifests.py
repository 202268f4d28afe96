"""All manifests of an installation, in the order in which they are applied."""

from typing import NamedTuple

from mutua.api import crd_schemas, kinds
from mutua.installation import access, control_plane, webhooks
from mutua.installation.labels import COMPONENT_LABEL, Object, common_labels, labelled
from mutua.installation.values import Installation


class Component(NamedTuple):
    """A part that is installed, waited for and reported as one. `name` as Istio names it."""

    name: str
    objects: tuple[Object, ...]


def components(installation: Installation) -> tuple[Component, ...]:
    """The parts, first to last. Each object carries its component's name as a label, by which it is found again."""
    found: list[Component] = []
    if installation.base_enabled:
        namespace = labelled(installation, "v1", "Namespace", installation.namespace)
        found.append(_component("Istio core", "Base", [namespace, *_definitions(installation)]))
    if installation.pilot_enabled:
        parts = [
            *access.objects(installation),
            *control_plane.objects(installation),
            webhooks.injector(installation),
            webhooks.validator(installation),
        ]
        found.append(_component("Istiod", "Pilot", parts))
    return tuple(found)


def _definitions(installation: Installation) -> list[Object]:
    """What the API server must know of our kinds."""
    definitions = [crd_schemas.custom_resource_definition(kind) for kind in kinds.ours()]
    for definition in definitions:
        definition["metadata"]["labels"] = common_labels(installation)
    return definitions


def _component(name: str, label: str, objects: list[Object]) -> Component:
    for item in objects:
        item["metadata"]["labels"][COMPONENT_LABEL] = label
    return Component(name, tuple(objects))
