"""Whatever changes in whatever order: the snapshot that followed answers like one made from nothing."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_objects import (
    authorization_policy,
    change,
    destination_rule,
    endpoints,
    peer_authentication,
    pod,
    service,
    service_entry,
    workload_entry,
)

from mutua.api.kinds import AnyObject
from mutua.api.meshconfig import MeshConfig
from mutua.mesh import build, view
from mutua.mesh.objects import Change, ObjectSet
from mutua.mesh.view import Proxy

NAMESPACES = ("a", "b", "istio-system")
APPS = ("x", "y")
namespace = st.sampled_from(NAMESPACES)
app = st.sampled_from(APPS)
index = st.integers(0, 2)
mode = st.sampled_from(["STRICT", "PERMISSIVE", "DISABLE", "UNSET"])
created = st.sampled_from(["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"])


def address(where: str, number: int) -> str:
    return f"10.0.{NAMESPACES.index(where)}.{number + 1}"


@st.composite
def pods(draw: st.DrawFn) -> AnyObject:
    where, number = draw(namespace), draw(index)
    return pod(
        where,
        f"pod-{number}",
        address(where, number),
        {"app": draw(app)},
        account=draw(app),
        sidecar=draw(st.booleans()),
        ports={"web": draw(st.sampled_from([8080, 9090]))},
        phase=draw(st.sampled_from(["Running", "Succeeded"])),
    )


@st.composite
def services(draw: st.DrawFn) -> AnyObject:
    where, name = draw(namespace), draw(app)
    return service(
        where,
        name,
        draw(st.sampled_from(["10.96.0.1", "None"])),
        {"app": draw(app)} if draw(st.booleans()) else {},
        {"name": "http", "port": 80, "targetPort": draw(st.sampled_from(["web", 8080]))},
        created=draw(created),
        annotations={"networking.istio.io/exportTo": draw(st.sampled_from(["", ".", "a", "a,b"]))},
    )


@st.composite
def slices(draw: st.DrawFn) -> AnyObject:
    where = draw(namespace)
    numbers = draw(st.dictionaries(index, st.sampled_from([True, False, None])))
    return endpoints(where, draw(app), {address(where, number): ready for number, ready in numbers.items()}, http=8080)


@st.composite
def peers(draw: st.DrawFn) -> AnyObject:
    spec: dict[str, Any] = {"mtls": {"mode": draw(mode)}}
    if draw(st.booleans()):
        spec |= {"selector": {"matchLabels": {"app": draw(app)}}, "portLevelMtls": {"8080": {"mode": draw(mode)}}}
    return peer_authentication(draw(namespace), f"p{draw(index)}", spec, draw(created))


@st.composite
def rules(draw: st.DrawFn) -> AnyObject:
    host = draw(st.sampled_from(["x", "x.a.svc.cluster.local", "*.a.svc.cluster.local", "*.local", "*"]))
    spec: dict[str, Any] = {"host": host, "exportTo": draw(st.sampled_from([[], ["."], ["*"], ["b"]]))}
    if draw(st.booleans()):
        spec["subsets"] = [{"name": "some", "labels": {"app": draw(app)}}]
    spec["trafficPolicy"] = {"tls": {"mode": draw(st.sampled_from(["DISABLE", "ISTIO_MUTUAL"]))}}
    if draw(st.booleans()):
        spec["workloadSelector"] = {"matchLabels": {"app": draw(app)}}
    return destination_rule(draw(namespace), f"r{draw(index)}", spec)


@st.composite
def policies(draw: st.DrawFn) -> AnyObject:
    spec: dict[str, Any] = {"action": draw(st.sampled_from(["ALLOW", "AUDIT"]))}
    if draw(st.booleans()):
        spec["selector"] = {"matchLabels": {"app": draw(app)}}
    return authorization_policy(draw(namespace), f"z{draw(index)}", spec)


@st.composite
def machines(draw: st.DrawFn) -> AnyObject:
    where, number = draw(namespace), draw(index)
    spec: dict[str, Any] = {"address": address(where, number + draw(st.sampled_from([0, 100])))}
    spec |= {"labels": {"app": draw(app)}, "serviceAccount": draw(st.sampled_from(["", "x"]))}
    return workload_entry(where, f"machine-{number}", spec)


@st.composite
def entries(draw: st.DrawFn) -> AnyObject:
    host = draw(st.sampled_from(["x.a.svc.cluster.local", "out.example.com", "*.example.com"]))
    spec: dict[str, Any] = {"hosts": [host], "resolution": draw(st.sampled_from(["NONE", "STATIC", "DNS"]))}
    spec["ports"] = [{"number": draw(st.sampled_from([80, 81])), "name": "http", "protocol": "HTTP"}]
    spec["location"] = draw(st.sampled_from(["MESH_INTERNAL", "MESH_EXTERNAL"]))
    spec["exportTo"] = draw(st.sampled_from([[], ["."], ["b"]]))
    if draw(st.booleans()):
        spec["workloadSelector"] = {"labels": {"app": draw(app)}}
    elif draw(st.booleans()) and spec["resolution"] != "NONE":
        spec["endpoints"] = [{"address": "10.8.0.1", "serviceAccount": draw(app), "labels": {"app": draw(app)}}]
    return service_entry(draw(namespace), f"e{draw(index)}", spec, draw(created))


CHANGE = st.builds(
    lambda item, gone: change(item, gone=gone),
    st.one_of(pods(), services(), slices(), peers(), rules(), policies(), machines(), entries()),
    st.sampled_from([False, False, False, True]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(CHANGE, min_size=1, max_size=6), min_size=1, max_size=6), st.booleans())
def test_following_changes_equals_starting_afresh(batches: list[list[Change]], ask_every_time: bool) -> None:
    config = MeshConfig()
    current = build.snapshot(ObjectSet(), config)
    proxies = [
        Proxy(where, f"pod-{number}", labels={"app": "x"}) for where in (*NAMESPACES, "nowhere") for number in range(3)
    ]
    for batch in batches:
        current = build.snapshot(current.objects.replace(batch), config, current)
        if ask_every_time:
            for proxy in proxies:
                view.for_proxy(current, proxy)
    afresh = build.snapshot(current.objects, config)
    for proxy in proxies:
        assert view.for_proxy(current, proxy) == view.for_proxy(afresh, proxy)
    assert current.workloads == afresh.workloads
    assert current.services == afresh.services
    assert current.machines == afresh.machines
    assert current.parts.loads == afresh.parts.loads
    assert current.parts.outside == afresh.parts.outside
    assert current.namespaces == afresh.namespaces
