"""How long a snapshot takes to build, to follow one change, and to be read by every proxy: `snapshot.py [services]`."""

import sys
import time
from collections.abc import Callable
from typing import Any

from mutua.api import decode, kinds
from mutua.api.kinds import AnyObject, Kind
from mutua.api.meshconfig import MeshConfig
from mutua.mesh import build, view
from mutua.mesh.objects import Change, ObjectSet
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.view import Proxy

PODS_PER_SERVICE = 2
SERVICES_PER_NAMESPACE = 50
REPEATS = 7


def main() -> None:
    services = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    objects = ObjectSet.of(mesh_of(services))
    config = MeshConfig()
    print(f"{services} services, {services * PODS_PER_SERVICE} pods, {services // SERVICES_PER_NAMESPACE} namespaces")
    first = timed("first snapshot", lambda: build.snapshot(objects, config), repeats=1)
    proxies = [Proxy(namespace, name) for namespace, name in first.workloads]
    timed(f"first views of {len(proxies)} proxies", lambda: views(first, proxies), repeats=1)
    for what, change in changes(first).items():
        followed(what, first, change, proxies)


def followed(what: str, current: MeshSnapshot, change: Change, proxies: list[Proxy]) -> None:
    """Print the best time to follow a change there and back, and how many proxies it concerns."""
    before = views(current, proxies)
    back = Change(change.kind, change.key, current.objects.of_kind(change.kind).get(change.key))
    best_build = best_views = float("inf")
    concerned = 0
    for _ in range(REPEATS):
        started = time.perf_counter()
        now = build.snapshot(current.objects.replace([change]), current.settings.mesh_config, current)
        built = time.perf_counter()
        after = views(now, proxies)
        best_build = min(best_build, built - started)
        best_views = min(best_views, time.perf_counter() - built)
        concerned = sum(one is not other for one, other in zip(before, after, strict=True))
        current = build.snapshot(now.objects.replace([back]), current.settings.mesh_config, now)
        before = views(current, proxies)
    print(
        f"{what:44} {best_build * 1e3:8.2f} ms   all views {best_views * 1e3:8.2f} ms   proxies concerned {concerned:6}"
    )


def views(snapshot: MeshSnapshot, proxies: list[Proxy]) -> list[Any]:
    return [view.for_proxy(snapshot, proxy) for proxy in proxies]


def timed(what: str, run: Callable[[], Any], *, repeats: int) -> Any:
    best, result = float("inf"), None
    for _ in range(repeats):
        started = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - started)
    print(f"{what:44} {best * 1e3:8.2f} ms")
    return result


def changes(snapshot: MeshSnapshot) -> dict[str, Change]:
    """One change of each sort, in namespace ns-0 unless said otherwise."""
    strict, disable = {"mtls": {"mode": "STRICT"}}, {"mtls": {"mode": "DISABLE"}}
    rule = {"host": "*.ns-0.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}
    namespace, name = "ns-0", "app-0"
    ready = snapshot.objects.of_kind(kinds.ENDPOINT_SLICE)[namespace, name]
    address = snapshot.workloads[namespace, f"{name}-0"].addresses[0]
    return {
        "PeerAuthentication STRICT": added(kinds.PEER_AUTHENTICATION, namespace, strict),
        "PeerAuthentication DISABLE": added(kinds.PEER_AUTHENTICATION, namespace, disable),
        "PeerAuthentication STRICT, whole mesh": added(kinds.PEER_AUTHENTICATION, "istio-system", strict),
        "AuthorizationPolicy": added(kinds.AUTHORIZATION_POLICY, namespace, {}),
        "DestinationRule": added(kinds.DESTINATION_RULE, namespace, rule),
        "one pod not ready": Change(
            kinds.ENDPOINT_SLICE, kinds.ENDPOINT_SLICE.key(ready.metadata), slice_of(namespace, name, [address])
        ),
        "one pod more, without a service": Change(
            kinds.POD, (namespace, "extra"), pod(namespace, "extra", "extra", "10.255.255.1")
        ),
    }


def added(kind: Kind, namespace: str, spec: dict[str, Any]) -> Change:
    return Change(
        kind, (namespace, "bench"), read(kind, {"metadata": {"namespace": namespace, "name": "bench"}, "spec": spec})
    )


def mesh_of(services: int) -> list[AnyObject]:
    objects: list[AnyObject] = []
    for index in range(services):
        namespace, name = f"ns-{index // SERVICES_PER_NAMESPACE}", f"app-{index}"
        addresses = []
        for replica in range(PODS_PER_SERVICE):
            number = index * PODS_PER_SERVICE + replica
            addresses.append(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
            objects.append(pod(namespace, f"{name}-{replica}", name, addresses[-1]))
        spec = {
            "clusterIP": f"10.200.{index >> 8}.{index & 255}",
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        }
        objects.append(read(kinds.SERVICE, {"metadata": {"namespace": namespace, "name": name}, "spec": spec}))
        objects.append(slice_of(namespace, name, addresses))
    return objects


def pod(namespace: str, name: str, app: str, address: str) -> AnyObject:
    labels = {"app": app, "pod-template-hash": "abc", "security.istio.io/tlsMode": "istio"}
    spec = {"serviceAccountName": app, "containers": [{"name": "app"}, {"name": "istio-proxy"}]}
    metadata = {"namespace": namespace, "name": name, "labels": labels}
    return read(kinds.POD, {"metadata": metadata, "spec": spec, "status": {"podIP": address, "phase": "Running"}})


def slice_of(namespace: str, name: str, addresses: list[str]) -> AnyObject:
    metadata = {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": name}}
    endpoints = [{"addresses": [address], "conditions": {"ready": True}} for address in addresses]
    return read(
        kinds.ENDPOINT_SLICE,
        {
            "metadata": metadata,
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080}],
        },
    )


def read(kind: Kind, manifest: dict[str, Any]) -> AnyObject:
    decoded = decode.from_mapping(kind, manifest)
    assert decoded.value is not None, decoded.findings
    return decoded.value


if __name__ == "__main__":
    main()
