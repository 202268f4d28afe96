"""A proxy's view as Envoy resources: equal views give equal bytes, and equal parts are translated once."""

from collections.abc import Callable
from typing import Final

from mutua.envoy import endpoints, inbound, outbound
from mutua.envoy.memo import remembered
from mutua.envoy.resource_set import CLUSTER, ENDPOINT, Fragment, Resource, ResourceSet, combined, section
from mutua.mesh.proxy_view import Discovery, LoadAssignment, OutboundView, ProxyView


def resources(view: ProxyView) -> ResourceSet:
    """All that the proxy with this view is told.

    Raises DanglingReferenceError instead of returning a set in which one resource names another that is not there.
    """
    return combined(*(part(view) for part in SIDECAR))


def _outbound(view: ProxyView) -> Fragment:
    return outbound.fragment(view.mesh, view.inbound.trust, view.outbound)


def _inbound(view: ProxyView) -> Fragment:
    providers = view.mesh.authorization_providers
    if providers:
        dialled = _dialled(view.outbound)
        providers = tuple(each for each in providers if (each.host, each.port) in dialled)
    return inbound.fragment(view.mesh, view.inbound, providers)


def _endpoints(view: ProxyView) -> Fragment:
    return _assignments(view.outbound, view.endpoints)


SIDECAR: Final[tuple[Callable[[ProxyView], Fragment], ...]] = (_outbound, _inbound, _endpoints)
"""What a sidecar gets."""


@remembered(limit=512)
def _dialled(view: OutboundView) -> frozenset[tuple[str, int]]:
    """Every host and port that there is a cluster for."""
    return frozenset((service.host, port.number) for service in view.services for port in service.ports)


@remembered(limit=2048)
def _assignments(view: OutboundView, assignments: tuple[LoadAssignment, ...]) -> Fragment:
    """One load assignment per cluster that asks for one: without it, even an empty one, Envoy would wait for it."""
    given = {(each.host, each.port, each.subset): each for each in assignments}
    made: list[Resource] = []
    for service in view.services:
        if service.discovery is not Discovery.PUSHED:
            continue
        for port in service.ports:
            for subset in ("", *(each.name for each in port.subsets)):
                assignment = given.get((service.host, port.number, subset))
                if assignment is None:
                    assignment = LoadAssignment(service.host, port.number, (), subset)
                made.append(endpoints.load_assignment(assignment, service.is_headless))
    references = frozenset((CLUSTER, each.name) for each in made)
    return Fragment(sections={ENDPOINT: section(made)}, references=references)
