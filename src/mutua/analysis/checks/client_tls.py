"""TLS that clients are told to use and that is not what it looks like: twice, not at all, or towards anybody."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from mutua.analysis import words
from mutua.analysis.check import Check
from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message, Subject, own, subject
from mutua.analysis.projection import SNAPSHOT_INPUTS
from mutua.api import kinds
from mutua.api.networking import DestinationRule
from mutua.api.service_entry import ServiceEntry
from mutua.mesh import destination_rule, hosts
from mutua.mesh.proxy_view import ClientTls, ClientTlsMode, ObjectRef, OutboundPort, OutboundService, Protocol
from mutua.mesh.selectors import labels_of

KIND: Final = kinds.DESTINATION_RULE
_ENTRY: Final = kinds.SERVICE_ENTRY
_OWN_MODES: Final = (ClientTlsMode.SIMPLE, ClientTlsMode.MUTUAL)
_SECURE_PORTS: Final = frozenset({443, 8443})


def rules(inputs: Inputs) -> Iterator[Message]:
    """TLS inside TLS, and servers whose certificate says nothing about them."""
    for item in inputs.subjects(KIND, DestinationRule):
        twice: set[str] = set()
        unnamed: set[str] = set()
        unverified: set[str] = set()
        for service, port, tls in _dialled(inputs, item):
            if tls.mode not in _OWN_MODES:
                continue
            place = f"{service.host}:{port.number}"
            if port.protocol is Protocol.TLS:
                twice.add(place)
            if tls.insecure_skip_verify:
                unverified.add(place)
            elif not port.protocol.is_http and not tls.subject_alt_names:
                unnamed.add(place)
        about, field = subject(KIND, item), "spec.trafficPolicy.tls"
        if twice:
            text = f"what applications encrypt themselves is encrypted once more on the way to {words.listed(twice)}"
            hint = "name the port http and let applications send plain HTTP, or leave tls out of the rule"
            yield own("MUT0021", about, text, hint, field=field)
        if unverified:
            text = f"insecureSkipVerify: anybody can answer for {words.listed(unverified)}"
            yield own(
                "MUT0023", about, text, "name the authorities in caCertificates", field=f"{field}.insecureSkipVerify"
            )
        if unnamed:
            places = words.listed(unnamed)
            text = f"no name is demanded of the server at {places}: any certificate of its authorities will do"
            hint = "bytes that are no HTTP name no host: say in subjectAltNames who may answer"
            yield own("MUT0023", about, text, hint, field=f"{field}.subjectAltNames")


def _dialled(inputs: Inputs, item: DestinationRule) -> Iterator[tuple[OutboundService, OutboundPort, ClientTls]]:
    """The ports for which the rule counts, as clients of its own namespace dial them that it selects."""
    snapshot, spec = inputs.snapshot, item.spec
    namespace = item.metadata.namespace
    host = hosts.resolve(spec.host, namespace, inputs.injector.cluster_domain)
    labels = labels_of(spec.workload_selector.match_labels) if spec.workload_selector else frozenset()
    own_reference = ObjectRef(destination_rule.KIND, namespace, item.metadata.name)
    services = snapshot.parts.outbound.view(namespace, labels).services
    if not hosts.is_wildcard(host):
        of_host = inputs.shared(f"services {id(services)} by host", partial(_by_host, services))
        services = tuple(filter(None, (of_host.get(host),)))
    for service in services:
        if not hosts.matches(host, service.host):
            continue
        for port in service.ports:
            if port.destination_rule == own_reference:
                yield service, port, port.tls


def _by_host(services: tuple[OutboundService, ...]) -> dict[str, OutboundService]:
    return {service.host: service for service in services}


def entries(inputs: Inputs) -> Iterator[Message]:
    """Ports read as HTTP that lead to where TLS is spoken, without a rule that makes TLS of it."""
    snapshot = inputs.snapshot
    for item in inputs.subjects(_ENTRY, ServiceEntry):
        plain: set[str] = set()
        services = snapshot.parts.outbound.view(item.metadata.namespace, frozenset()).services
        of_host = inputs.shared(f"services {id(services)} by host", partial(_by_host, services))
        for service in filter(None, (of_host.get(host) for host in item.spec.hosts)):
            if not service.is_entry:
                continue
            dialled = {port.number: port for port in service.ports}
            for index, port in enumerate(item.spec.ports):
                found = dialled.get(port.number)
                target = port.target_port or port.number
                reads_requests = found is not None and found.protocol.is_http
                if (
                    found is not None
                    and reads_requests
                    and target in _SECURE_PORTS
                    and found.tls.mode not in _OWN_MODES
                ):
                    plain.add(f"{service.host}:{target} (spec.ports[{index}])")
        if plain:
            text = f"requests are sent in plaintext to {words.listed(plain)}, where TLS is usual"
            hint = (
                "let a DestinationRule with tls mode SIMPLE for the host make TLS of them;"
                " if applications speak TLS themselves, the protocol is TLS or HTTPS"
            )
            yield own("MUT0022", Subject(_ENTRY.name, *_ENTRY.key(item.metadata)), text, hint, field="spec.ports")


CHECKS: Final = (
    Check(
        "destinationrule.ClientTlsAnalyzer",
        "TLS inside TLS, and servers that are not verified",
        ("MUT0021", "MUT0023"),
        SNAPSHOT_INPUTS,
        rules,
        (KIND,),
    ),
    Check(
        "serviceentry.PlaintextAnalyzer",
        "Requests in plaintext to where TLS is spoken",
        ("MUT0022",),
        SNAPSHOT_INPUTS,
        entries,
        (_ENTRY,),
    ),
)
