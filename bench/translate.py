"""What translating a change costs: python bench/translate.py [services] [proxies]."""

import sys
from time import perf_counter, process_time

from mutua.envoy import translate
from mutua.envoy.resource_set import LISTENER
from mutua.mesh.proxy_view import (
    AuthorizationAction,
    ClientTls,
    EffectivePolicy,
    Endpoint,
    InboundPort,
    InboundView,
    LoadAssignment,
    MeshView,
    MtlsMode,
    OutboundPort,
    OutboundService,
    OutboundView,
    Protocol,
    ProxyView,
    Rule,
    Source,
    Trust,
)
from mutua.xds import stream, wire
from mutua.xds.stream import Stream

WORKLOADS = 30
"""Distinct workloads that the proxies are replicas of."""


def outbound(services: int) -> OutboundView:
    """A namespace that sees so many services."""
    return OutboundView(
        namespace="bench",
        cluster_domain="cluster.local",
        services=tuple(
            OutboundService(
                host=f"service-{number:05}.bench.svc.cluster.local",
                name=f"service-{number:05}",
                namespace="bench",
                addresses=(f"10.96.{number // 250}.{number % 250 + 1}",),
                ports=(
                    OutboundPort(
                        number=80,
                        name="http",
                        protocol=Protocol.HTTP if number % 2 else Protocol.AUTO,
                        tls=ClientTls(),
                        destination_rule=None,
                        identities=(f"spiffe://cluster.local/ns/bench/sa/service-{number:05}",),
                    ),
                ),
            )
            for number in range(services)
        ),
    )


def assignments(view: OutboundView) -> tuple[LoadAssignment, ...]:
    """Three endpoints for each service."""
    return tuple(
        LoadAssignment(
            host=service.host,
            port=80,
            endpoints=tuple(
                Endpoint(f"10.244.{index % 250}.{last}", 8080, True, service.name, "bench") for last in (1, 2, 3)
            ),
        )
        for index, service in enumerate(view.services)
    )


def inbound(workload: int, mode: MtlsMode) -> InboundView:
    """One workload: two ports and five policies."""
    policies = tuple(
        EffectivePolicy(
            namespace="bench",
            name=f"policy-{number}",
            action=AuthorizationAction.ALLOW,
            rules=(Rule(sources=(Source(principals=(f"cluster.local/ns/bench/sa/caller-{number}",)),)),),
        )
        for number in range(5)
    )
    ports = (
        InboundPort(8080, Protocol.HTTP, mode, f"service-{workload:05}.bench.svc.cluster.local"),
        InboundPort(9090, Protocol.AUTO, mode, f"service-{workload:05}.bench.svc.cluster.local"),
    )
    return InboundView(Trust(), mode, ((workload + 10_000, mode),), ports, policies)


def main(services: int = 1000, proxies: int = 1000) -> None:
    """Translate everything once, then a change of mode that reaches every proxy, as a push."""
    mesh, out = MeshView(access_log_file="/dev/stdout"), outbound(services)
    where = assignments(out)

    def views(mode: MtlsMode) -> list[ProxyView]:
        accepted = [inbound(workload, mode) for workload in range(WORKLOADS)]
        return [ProxyView(mesh, accepted[number % WORKLOADS], out, where) for number in range(proxies)]

    strict, permissive = views(MtlsMode.STRICT), views(MtlsMode.PERMISSIVE)
    started = perf_counter()
    translate.resources(permissive[0])
    print(f"first proxy, {services} services: {(perf_counter() - started) * 1e3:.1f} ms")
    started = perf_counter()
    before = [translate.resources(view) for view in permissive]
    print(f"{proxies} proxies of {WORKLOADS} workloads: {(perf_counter() - started) * 1e3:.1f} ms")
    streams = [Stream(resources=resources) for resources in before]
    streams = [_subscribed(each) for each in streams]
    cpu = process_time()
    started = perf_counter()
    sent = 0
    for state, view in zip(streams, strict, strict=True):
        _, replies = stream.on_resources(state, translate.resources(view))
        sent += sum(len(wire.delta(reply)) for reply in replies)
    print(
        f"change of mode to {proxies} proxies: {(perf_counter() - started) * 1e3:.1f} ms, "
        f"{(process_time() - cpu) * 1e3:.1f} ms CPU, {sent / proxies / 1024:.1f} KiB each"
    )


def _subscribed(state: Stream) -> Stream:
    """A stream in step with what it is served."""
    for type_url in (translate.CLUSTER, LISTENER):
        request = stream.discovery_pb2.DeltaDiscoveryRequest(type_url=type_url)
        state, replies = stream.on_delta_request(state, request)
        request.response_nonce = replies[0].push.nonce
        state, _ = stream.on_delta_request(state, request)
    return state


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
