"""What a policy's own status says of it: how many proxies, what stands in its way, who cannot follow."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mutua.analysis.message import Message, Subject
from mutua.api import decode
from mutua.api.findings import Severity
from mutua.api.meshconfig import MeshConfig
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import ObjectRef
from mutua.mesh.snapshot import MeshSnapshot
from mutua.reports.policy_status import conditions, effect, gather, held
from mutua.reports.policy_status.conditions import Facts
from mutua.reports.policy_status.effect import Effect
from mutua.reports.policy_status.gather import Known
from mutua.reports.policy_status.held import Held, ProxyState

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WORLD = """
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web-1, labels: {app: web}}
spec: {containers: [{name: istio-proxy}]}
status: {phase: Running, podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web-2, labels: {app: web}}
spec: {containers: [{name: istio-proxy}]}
status: {phase: Running, podIP: 10.0.0.2}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: db-1, labels: {app: db}}
spec: {containers: [{name: istio-proxy}]}
status: {phase: Running, podIP: 10.0.0.3}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: leaving, labels: {app: web}, deletionTimestamp: "2026-01-01T00:00:00Z"}
spec: {containers: [{name: istio-proxy}]}
status: {phase: Running, podIP: 10.0.0.4}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: plain, labels: {app: plain}}
spec: {containers: [{name: plain}]}
status: {phase: Running, podIP: 10.0.0.5}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: web}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
---
"""


def snapshot(text: str) -> MeshSnapshot:
    decoded = [decode.any_from_mapping(document) for document in yaml.safe_load_all(WORLD + text) if document]
    assert all(item.value is not None for item in decoded), decoded
    return build.snapshot(ObjectSet.of(item.value for item in decoded if item.value is not None), MeshConfig())


def known(text: str) -> Known:
    current = snapshot(text)
    decided = {
        (profile.namespace, name): effect.decided(current, profile.example)
        for profile in effect.profiles(current)
        for name in profile.names
    }
    return Known(current, decided)


def facts(text: str, kind: str, name: str, **key_problems: str) -> Facts:
    there = known(text)
    effects = effect.tally((each, 1) for each in there.decided.values())
    bare = tuple(gather.without_sidecar(there.snapshot, "istio-system"))
    found = gather.facts(ObjectRef(kind, "shop", name), there, effects, (), bare, key_problems)
    assert found is not None
    return found


def said(found: Facts) -> dict[str, tuple[str, str, str]]:
    return {each.type: (each.status, each.reason, each.message) for each in conditions.conditions(found)}


def peer(name: str, mode: str, created: int = 1, selector: str = "", namespace: str = "shop") -> str:
    """A manifest."""
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{namespace: {namespace}, name: {name}, creationTimestamp: "2026-01-0{created}T00:00:00Z"}}
spec: {{mtls: {{mode: {mode}}}, {selector and f"selector: {{matchLabels: {{app: {selector}}}}}"}}}
---
"""


def rule(name: str, host: str, created: int = 1, namespace: str = "shop") -> str:
    """A manifest."""
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{namespace: {namespace}, name: {name}, creationTimestamp: "2026-01-0{created}T00:00:00Z"}}
spec: {{host: {host}, trafficPolicy: {{tls: {{mode: DISABLE}}}}}}
---
"""


def test_a_policy_counts_for_the_pods_that_it_decides_about() -> None:
    text = peer("all", "STRICT") + peer("web", "PERMISSIVE", selector="web")

    assert facts(text, "PeerAuthentication", "web").effect.pods == 2
    everybody = facts(text, "PeerAuthentication", "all")
    assert (everybody.effect.pods, everybody.effect.strict_pods) == (1, 1)
    assert said(everybody)["Effective"] == (
        "True",
        "InPart",
        "counts for 1 pod; for 2 pods PeerAuthentication shop/web counts instead",
    )


def test_an_older_policy_of_the_same_level_leaves_nothing_to_decide() -> None:
    text = peer("old", "STRICT", 1) + peer("new", "DISABLE", 2)

    found = facts(text, "PeerAuthentication", "new")

    assert found.effect.pods == 0
    assert said(found)["Reconciled"][:2] == ("True", "NoProxies")
    assert said(found)["Effective"][:2] == ("Unknown", "NoPods")  # the analysis, asked or not, knows who is in the way


def test_the_analysis_says_who_is_in_the_way() -> None:
    about = Subject("PeerAuthentication", "shop", "new")
    message = Message("MUT0001", Severity.WARNING, about, "is ignored: shop/old is older", "delete it")
    found = Facts(ObjectRef(*astuple(about)), 1, Effect(), Held(1), (message,))

    assert said(found)["Effective"] == (
        "False",
        "PeerAuthenticationShadowed",
        "is ignored: shop/old is older (delete it) [MUT0001]",
    )
    assert said(found)["ChecksPassed"][:2] == ("True", "NothingFound")


def astuple(about: Subject) -> tuple[str, str, str]:
    return about.kind, about.namespace, about.name


def test_pods_without_a_sidecar_are_named_where_plaintext_is_refused() -> None:
    strict = said(facts(peer("all", "STRICT"), "PeerAuthentication", "all"))
    permissive = said(facts(peer("all", "PERMISSIVE"), "PeerAuthentication", "all"))

    assert strict["ClientsReady"] == (
        "False",
        "WithoutSidecar",
        "1 pod has no sidecar and cannot call where this policy is STRICT: shop/plain",
    )
    assert "ClientsReady" not in permissive


def test_pods_of_the_policys_own_namespace_are_named_first() -> None:
    strict = msgspec.structs.replace(
        facts(peer("all", "STRICT"), "PeerAuthentication", "all"), bare=("a/one", "b/two", "shop/plain")
    )

    assert said(strict)["ClientsReady"][2].endswith(": shop/plain, and 2 of other namespaces")


def test_a_port_that_is_strict_refuses_plaintext_too() -> None:
    text = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {namespace: shop, name: ports}
spec: {selector: {matchLabels: {app: web}}, mtls: {mode: UNSET}, portLevelMtls: {"80": {mode: STRICT}}}
"""
    found = facts(text, "PeerAuthentication", "ports")

    assert (found.effect.pods, found.effect.strict_pods, found.bare) == (2, 2, ("shop/plain",))


def test_rules_that_clients_follow_and_those_in_whose_place_others_are_followed() -> None:
    text = rule("first", "web", 1) + rule("second", "web", 2) + rule("wide", "'*.local'") + rule("nowhere", "nowhere")

    assert said(facts(text, "DestinationRule", "first"))["Effective"][:2] == ("True", "Counts")
    assert said(facts(text, "DestinationRule", "second"))["Effective"] == (
        "True",
        "InPart",
        "counts for 3 pods; for 3 pods DestinationRule shop/first counts instead",
    )
    assert said(facts(text, "DestinationRule", "wide"))["Effective"] == (
        "False",
        "Overridden",
        "clients follow DestinationRule shop/first instead",
    )
    assert said(facts(text, "DestinationRule", "nowhere"))["Effective"][:2] == ("Unknown", "NoPods")


def test_keys_that_cannot_be_had_are_told() -> None:
    text = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {namespace: shop, name: tokens}
spec:
  selector: {matchLabels: {app: db}}
  jwtRules: [{issuer: a, jwksUri: "https://a/keys"}, {issuer: b, jwks: "{}"}]
"""
    found = facts(text, "RequestAuthentication", "tokens", **{"https://a/keys": "no answer"})

    assert found.effect.pods == 1
    assert said(found)["KeysReady"] == (
        "False",
        "Missing",
        "tokens of a are refused, since its keys are missing: no answer",
    )


def test_a_dry_run_enforces_nothing() -> None:
    text = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: try, annotations: {istio.io/dry-run: "true"}}
spec: {action: DENY, rules: [{}]}
"""
    assert said(facts(text, "AuthorizationPolicy", "try"))["Effective"][:2] == ("False", "DryRun")


@pytest.mark.parametrize(
    ("in_step", "refused", "expected"),
    [
        ({"LDS", "RDS", "CDS"}, (), ("True", "AllProxies", "live on 1 of 1 proxy")),
        ({"LDS"}, (), ("False", "Waiting", "live on 0 of 1 proxy; the others have not acknowledged it yet")),
        ({"RDS"}, (("LDS", "bad regex"),), ("False", "Refused", "live on 0 of 1 proxy; shop/w refused: bad regex")),
    ],
)
def test_a_policy_is_live_where_everything_that_carries_it_is_acknowledged(
    in_step: set[str], refused: tuple[tuple[str, str], ...], expected: tuple[str, str, str]
) -> None:
    ref = ObjectRef("AuthorizationPolicy", "shop", "a")
    on_proxy = Held(3).with_proxy(ref.kind, ProxyState("shop", "w", frozenset(in_step), refused))
    reports = [{held.key(ref): on_proxy}, {held.key(ref): Held(2, 7)}, {}]  # of another generation: not counted

    found = Facts(ref, 3, Effect(pods=1), held.together(ref, 3, reports))

    assert said(found)["Reconciled"] == expected


def test_reports_are_read_as_written_and_garbage_is_nothing() -> None:
    report = {"A/b/c": Held(1, 2, ("x",)), "A/b/d": Held(4)}

    assert held.decoded(held.encoded(report)) == report
    assert held.encoded(dict(reversed(report.items()))) == held.encoded(report)
    assert [held.decoded(text) for text in ("", "[]", '{"a":1}')] == [{}, {}, {}]


FACTS = Facts(ObjectRef("AuthorizationPolicy", "shop", "a"), 5, Effect(pods=2), Held(5, 2))


def test_an_equal_status_stays_as_it_is_and_a_changed_one_tells_since_when() -> None:
    first = conditions.status(FACTS, None, NOW)
    later = conditions.status(FACTS, first, NOW + timedelta(hours=1))
    fewer = conditions.status(Facts(FACTS.ref, 5, FACTS.effect, Held(5, 1)), first, NOW + timedelta(hours=2))

    assert later == first and conditions.says_the_same(first, {**first, "somebody's": "else"})
    assert first["proxies"] == "2/2" and first["observedGeneration"] == 5
    times = {entry["type"]: entry["lastTransitionTime"] for entry in fewer["conditions"]}
    assert times == {
        "Reconciled": "2026-01-02T05:04:05Z",
        "Effective": "2026-01-02T03:04:05Z",
        "ChecksPassed": "2026-01-02T03:04:05Z",
    }


def test_conditions_of_others_stay_and_times_to_come_are_not_believed() -> None:
    other = {"type": "Audited", "status": "True"}
    forged = {"type": "Reconciled", "status": "True", "lastTransitionTime": "2999-01-01T00:00:00Z"}

    made = conditions.status(FACTS, {"conditions": [other, forged]}, NOW)

    assert made["conditions"][0] == other
    assert made["conditions"][1]["lastTransitionTime"] == "2026-01-02T03:04:05Z"


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda part: (
        st.lists(part, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "status", "conditions", "lastTransitionTime", "x"]), part, max_size=4
        )
    ),
    max_leaves=12,
)


@given(ANYTHING | st.fixed_dictionaries({"conditions": ANYTHING}))
def test_whatever_is_in_the_status_does_no_harm(previous: Any) -> None:
    made = conditions.status(FACTS, previous, NOW)

    assert conditions.status(FACTS, made, NOW) == made
    assert {entry["type"] for entry in made["conditions"]} >= {"Reconciled", "Effective", "ChecksPassed"}
