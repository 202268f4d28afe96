"""Whom STRICT would cut off, why, and the cure; what is switched one by one, and what is left as it is."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from mutua.analysis.inputs import World
from mutua.api import decode
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import MtlsMode
from mutua.migration import machine, words
from mutua.migration import plan as plans
from mutua.migration import scene as scenes
from mutua.migration.machine import Before, Migration, Observation, Progress, Refusal, Step
from mutua.migration.plan import Plan
from mutua.migration.scene import Evidence, Obstacle, Scene
from mutua.reports.proxy_status import PlaintextSeen
from mutua.reports.traffic import EdgeTraffic, SeenBy, Unit
from mutua.verdict.plaintext import NO_SIDECAR

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NODE = "10.0.1.1"


def pod(name: str, address: str, *, app: str = "", sidecar: bool = True, **more: Any) -> dict[str, Any]:
    containers = [{"name": "app"} | more.pop("container", {})] + ([{"name": "istio-proxy"}] if sidecar else [])
    metadata = {"namespace": "shop", "name": name, "labels": {"app": app or name}, "uid": name} | more
    status = {"phase": "Running", "podIP": address}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": containers},
        "status": status,
    }


def owned(name: str, address: str, deployment: str, **more: Any) -> dict[str, Any]:
    """A pod of a Deployment."""
    made = pod(name, address, app=deployment, **more)
    made["metadata"]["labels"]["pod-template-hash"] = "abc"
    owner = {"kind": "ReplicaSet", "name": f"{deployment}-abc", "uid": "1", "controller": True}
    made["metadata"]["ownerReferences"] = [owner]
    return made


def policy(mode: str, name: str = "default", app: str = "", **more: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"mtls": {"mode": mode}} if mode else {}
    spec |= {"selector": {"matchLabels": {"app": app}}} if app else {}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"namespace": "shop", "name": name, "creationTimestamp": "2025-01-01T00:00:00Z"}
        | more.pop("metadata", {}),
        "spec": spec | more,
    }


WEB = owned("web-abc-1", "10.0.0.1", "web")


def service(name: str = "web", port: int = 80) -> list[dict[str, Any]]:
    """A Service that leads to the web pod."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": "shop", "name": name},
            "spec": {"selector": {"app": "web"}, "clusterIP": "10.9.0.1", "ports": [{"name": "http", "port": port}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}],
            "ports": [{"name": "http", "port": port}],
        },
    ]


def planned(
    *documents: dict[str, Any], seen: tuple[PlaintextSeen, ...] = (), target: MtlsMode = MtlsMode.STRICT
) -> Plan:
    return plans.make(made_scene(*documents, target=target), seen)


def made_scene(*documents: dict[str, Any], target: MtlsMode = MtlsMode.STRICT) -> Scene:
    decoded = [decode.any_from_mapping(document) for document in documents]
    values = [item.value for item in decoded if item.value is not None]
    assert len(values) == len(documents), [item.findings for item in decoded]
    world = World(ObjectSet.of(values), is_complete=True)
    return scenes.scene(world, "shop", target, {NODE}, NOW, timedelta(hours=1))


def spoke(
    client: str, server: str = "shop/web-abc-1", port: int = 80, *, reason: str = NO_SIDECAR, minutes: int = 1
) -> PlaintextSeen:
    """Somebody who spoke plaintext so many minutes ago."""
    return PlaintextSeen(client, server, port, False, 7, reason, last_seen=NOW - timedelta(minutes=minutes))


def one(plan: Plan) -> Obstacle:
    (found,) = (item for item in plan.obstacles if item.evidence is not Evidence.POSSIBLE)
    return found


def test_workloads_are_switched_one_by_one_and_replicas_together() -> None:
    plan = planned(WEB, owned("web-abc-2", "10.0.0.2", "web"), pod("api", "10.0.0.3"))

    assert plan.steps == (Step("api", (("app", "api"),)), Step("web", (("app", "web"),)))
    assert (plan.rest, plan.obstacles, plan.notes, plan.is_done) == ((), (), (), False)


def test_a_workload_whose_labels_are_among_anothers_cannot_be_switched_without_it() -> None:
    canary = pod("canary", "10.0.0.4", app="web")
    canary["metadata"]["labels"]["track"] = "canary"

    assert [step.name for step in planned(WEB, canary).steps] == ["web"]


def test_what_has_a_mode_of_its_own_stays_and_what_inherits_goes_with_the_namespace() -> None:
    documents = (WEB, pod("api", "10.0.0.3"), pod("db", "10.0.0.4"))
    own = (
        policy("DISABLE", "db", "db"),
        policy("", "api", "api", portLevelMtls={"9090": {"mode": "PERMISSIVE"}}),
    )
    plan = planned(*documents, *own)

    assert ([step.name for step in plan.steps], plan.rest) == (["web"], ("api",))
    assert plan.notes == (
        "port 9090 of api stays PERMISSIVE, by PeerAuthentication api",
        "db stays DISABLE, by PeerAuthentication db",
    )


def test_what_an_earlier_run_has_proven_is_proven() -> None:
    ours = {"metadata": {"namespace": "shop", "name": "m", "labels": {"app.kubernetes.io/managed-by": "mutua-migrate"}}}
    plan = planned(WEB, pod("api", "10.0.0.3"), policy("STRICT", "m", "web", **ours))

    assert [(step.name, step.progress) for step in plan.steps] == [
        ("api", Progress.PENDING),
        ("web", Progress.PROVEN),
    ]


@pytest.mark.parametrize(
    ("mode", "target"), [("STRICT", "STRICT"), ("PERMISSIVE", "PERMISSIVE"), ("UNSET", "PERMISSIVE")]
)
def test_nothing_is_to_be_done_where_all_is_as_wanted(mode: str, target: str) -> None:
    assert planned(WEB, policy(mode), seen=(spoke("shop/legacy"),), target=MtlsMode(target)).is_done


def test_a_namespace_without_pods_still_changes_for_those_to_come() -> None:
    assert not planned(policy("PERMISSIVE")).is_done


def test_a_client_without_sidecar_that_was_seen_blocks_however_long_ago() -> None:
    legacy = owned("legacy-abc-1", "10.0.0.9", "legacy", sidecar=False)
    legacy["metadata"]["annotations"] = {"sidecar.istio.io/inject": "false"}
    plan = planned(WEB, legacy, seen=(spoke("shop/legacy-abc-1", minutes=600),))
    found = one(plan)

    assert (found.client, found.server, found.port, found.blocks) == ("shop/legacy", "web", 80, True)
    assert (found.why, found.connections) == ("the client has no sidecar", 7)
    assert found.cure == 'take sidecar.istio.io/inject: "false" away, and restart shop/legacy'


def test_a_client_that_was_given_its_sidecar_blocks_no_more() -> None:
    successor = owned("legacy-def-1", "10.0.0.9", "legacy")
    same_name = pod("bare", "10.0.0.8", creationTimestamp="2026-01-01T11:59:00Z")

    assert planned(WEB, successor, seen=(spoke("shop/legacy-abc-1"),)).blockers == ()
    assert planned(WEB, same_name, seen=(spoke("shop/bare"),)).blockers == ()


@pytest.mark.parametrize(("minutes", "blocks"), [(1, True), (61, False)])
def test_a_client_that_is_gone_or_outside_blocks_for_as_long_as_asked(minutes: int, blocks: bool) -> None:
    for client in ("batch/job-x", "192.0.2.1", NODE):
        assert bool(planned(WEB, seen=(spoke(client, minutes=minutes),)).blockers) is blocks, client


def test_an_address_that_called_a_pod_that_is_gone_is_to_be_thought_of() -> None:
    found = one(planned(WEB, seen=(spoke("192.0.2.1", "shop/web-old-1"),)))

    assert (found.server, found.blocks) == ("web", False)


def test_what_was_refused_or_went_elsewhere_or_to_a_port_that_stays_open_blocks_nothing() -> None:
    open_port = policy("", "web", "web", portLevelMtls={"9090": {"mode": "PERMISSIVE"}})
    refused = msgspec.structs.replace(spoke("192.0.2.1"), refused=True)
    seen = (refused, spoke("192.0.2.1", "other/web-abc-1"), spoke("192.0.2.1", port=9090))

    assert planned(WEB, open_port, seen=seen).obstacles == ()


def probed(kind: dict[str, Any]) -> dict[str, Any]:
    return owned("web-abc-1", "10.0.0.1", "web", container={"readinessProbe": kind})


def test_a_probe_that_is_not_rewritten_is_named_with_what_was_seen_of_it() -> None:
    plan = planned(probed({"httpGet": {"port": 80, "path": "/ready"}}), seen=(spoke(NODE),))
    found = one(plan)

    assert (found.client, found.server, found.port, found.evidence) == ("the kubelet", "web", 80, Evidence.CONFIGURED)
    assert found.why.startswith("the readiness probe of container app (HTTP GET /ready)")
    assert found.connections == 7


def test_a_probe_over_tcp_blocks_nothing_although_it_is_seen() -> None:
    assert planned(probed({"tcpSocket": {"port": 80}}), seen=(spoke(NODE),)).obstacles == ()


def test_a_scraper_without_sidecar_is_named() -> None:
    web = owned(
        "web-abc-1", "10.0.0.1", "web", annotations={"prometheus.io/scrape": "true", "prometheus.io/port": "80"}
    )
    web["metadata"]["labels"] |= {"app": "web"}
    scraper = pod("prom", "10.0.0.9", app="prometheus", sidecar=False)
    found = one(planned(web, scraper, seen=(spoke("shop/prom"),)))

    assert (found.client, found.server, found.port, found.blocks) == ("shop/prom", "web", 80, True)
    assert found.why.endswith("ask to be scraped on port 80, and the scraper has no sidecar")
    assert one(planned(web)).blocks is False
    assert planned(web, pod("prom", "10.0.0.9", app="prometheus")).obstacles == ()


def test_a_webhook_behind_a_sidecar_is_named() -> None:
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "guard"},
        "webhooks": [
            {"name": "guard.shop.io", "clientConfig": {"service": {"namespace": "shop", "name": "web", "port": 80}}}
        ],
    }
    found = one(planned(WEB, *service(), configuration))

    assert (found.client, found.server, found.port, found.blocks) == ("the API server", "web", 80, True)


def test_a_rule_that_makes_clients_send_plaintext_is_named() -> None:
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"namespace": "shop", "name": "plain"},
        "spec": {"host": "web", "trafficPolicy": {"tls": {"mode": "DISABLE"}}},
    }
    found = one(planned(WEB, *service(), rule))

    assert (found.client, found.blocks) == ("clients by DestinationRule shop/plain", True)
    assert "plaintext from clients in shop to web.shop.svc.cluster.local:80 fails at shop/web-abc-1" in found.why


def test_a_workload_that_is_disabled_goes_to_permissive_first() -> None:
    found = one(planned(WEB, policy("DISABLE")))

    assert (found.server, found.cure) == ("web", "first `mutua migrate run -n shop --to PERMISSIVE`")


def test_pods_that_could_call_are_named_apart_and_block_nothing() -> None:
    passing = pod("passing", "10.0.0.8", annotations={"traffic.sidecar.istio.io/excludeOutboundPorts": "80"})
    plan = planned(WEB, pod("bare", "10.0.0.9", sidecar=False), passing)

    assert [(item.client, item.evidence, item.blocks) for item in plan.obstacles] == [
        ("shop/bare", Evidence.POSSIBLE, False),
        ("shop/passing", Evidence.POSSIBLE, False),
    ]
    assert plan.notes == ("without a sidecar, so that whatever arrives reaches them in any mode: bare",)


def test_the_plan_in_words() -> None:
    legacy = owned("legacy-abc-1", "10.0.0.9", "legacy", sidecar=False)
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"istio-injection": "enabled"}},
    }
    text = words.plan_text(planned(WEB, legacy, namespace, seen=(spoke("shop/legacy-abc-1"),)), NOW)

    assert text.splitlines() == [
        "shop: to STRICT",
        "One by one: web",
        "At the end: the namespace",
        "",
        "Would be cut off:",
        "  ✘ shop/legacy -> web:80  (seen 7 times, last 1m ago)",
        "      why:  the client has no sidecar",
        "      cure: restart shop/legacy, so that it gets its sidecar",
        "",
        "Stays as it is:",
        "  without a sidecar, so that whatever arrives reaches them in any mode: legacy-abc-1",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (45, "45s"), (60, "1m"), (190, "3m10s"), (3600, "1h"), (7500, "2h5m")]
)
def test_spans_of_time_are_short(seconds: float, text: str) -> None:
    assert words.span(seconds) == text


def test_the_state_of_each_workload_in_a_table() -> None:
    found = made_scene(WEB, pod("api", "10.0.0.3"), policy("PERMISSIVE"))
    plan = plans.make(found, (spoke("192.0.2.1"),))

    def edge(workload: str, seen_by: SeenBy = SeenBy.SERVER, **numbers: int) -> EdgeTraffic:
        ends = ("shop", "load", "", "", "shop", workload, "", 80, "http", Unit.REQUESTS, seen_by)
        return EdgeTraffic(*ends, **numbers)

    traffic = (
        edge("web", mutual_tls=5, plaintext=2),
        edge("web", mutual_tls=1),
        edge("web", SeenBy.CLIENT, mutual_tls=9),
        edge("other", plaintext=9),
    )
    assert words.status_table(words.status_rows(found, plan, traffic)).splitlines() == [
        "WORKLOAD  PODS  MODE        DECIDED BY    MTLS  PLAINTEXT  BLOCKED BY",
        "api       1     PERMISSIVE  shop/default  0     0          -",
        "web       1     PERMISSIVE  shop/default  6     2          192.0.2.1",
    ]


def test_a_run_is_told_step_by_step() -> None:
    def step(progress: Progress) -> Step:
        return Step("web", (("app", "web"),), progress)

    state = Migration(
        namespace="shop",
        target=MtlsMode.STRICT,
        steps=(step(Progress.PENDING),),
        rest=(),
        before=Before(),
        soak_seconds=600,
        rollback_on=1,
        forced=False,
        by="ann",
        began=NOW,
        since=NOW,
    )
    said, seen = [], Observation(NOW)
    refusal = Refusal("web", "shop/legacy", "shop/web-abc-1", 80, 1, NO_SIDECAR, NOW)
    for following in (seen, seen, Observation(NOW, refusals=(refusal,)), Observation(NOW + timedelta(seconds=0.7))):
        after = machine.advance(state, following)
        said += words.transition(state, after)
        state = after

    assert said == [
        "web: STRICT is being applied",
        "web: live on all proxies; watched for 10m",
        "✘ shop/legacy was refused by shop/web-abc-1:80 (1 refused): the client has no sidecar",
        "rolling back: web",
        "rolled back, confirmed by all proxies 0.7 s after the first refusal",
        "stopped; all is as it was before",
    ]
    assert words.outcome(state, NOW) == (
        "2026-01-01 12:00 by ann, to STRICT: stopped: shop/legacy was refused by shop/web-abc-1:80 (1 refused): the"
        " client has no sidecar; rolled back: web"
    )
