"""All manifests of an installation, in the order in which they are applied."""

from typing import NamedTuple

from mutua.installation import access, control_plane, definitions, webhooks
from mutua.installation.labels import COMPONENT_LABEL, Object, labelled
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
        found.append(_component("Istio core", "Base", [namespace, *definitions.objects(installation)]))
    if installation.pilot_enabled:
        parts = [
            *access.objects(installation),
            *control_plane.objects(installation),
            webhooks.injector(installation),
            webhooks.validator(installation),
        ]
        found.append(_component("Istiod", "Pilot", parts))
    return tuple(found)


def _component(name: str, label: str, objects: list[Object]) -> Component:
    for item in objects:
        item["metadata"]["labels"][COMPONENT_LABEL] = label
    return Component(name, tuple(objects))
