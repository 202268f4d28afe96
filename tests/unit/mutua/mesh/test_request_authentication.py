"""Which tokens a workload accepts, and where the keys for them come from."""

from typing import Any

import msgspec

from mutua.api.meshconfig import MeshConfig
from mutua.api.security import RequestAuthentication
from mutua.mesh import build, request_authentication
from mutua.mesh.objects import ObjectSet
from mutua.mesh.view import Proxy, for_proxy


def tokens(name: str, *rules: dict[str, Any], namespace: str = "shop", **spec: Any) -> RequestAuthentication:
    """An object of this name; those that are made later are younger."""
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": f"2026-01-01T00:00:{name[-2:]}Z"},
        "spec": {"jwtRules": list(rules), **spec},
    }
    return msgspec.convert(document, RequestAuthentication)


def objects(*items: RequestAuthentication) -> ObjectSet:
    """Nothing but these."""
    return ObjectSet.of(items)


def test_rules_of_the_namespace_and_of_the_root_hold_together() -> None:
    root = tokens("root-03", {"issuer": "root", "jwks": "r"}, namespace="istio-system")
    own = tokens("own-02", {"issuer": "own", "jwks": "o"}, selector={"matchLabels": {"app": "a"}})
    elsewhere = tokens("else-01", {"issuer": "else"}, namespace="other")
    snapshot = build.snapshot(objects(root, own, elsewhere), MeshConfig())

    def issuers(**labels: str) -> list[str]:
        view = for_proxy(snapshot, Proxy("shop", labels=labels))
        return [rule.issuer for rule in view.inbound.token_rules]

    assert issuers(app="a") == ["own", "root"]
    assert issuers(app="b") == ["root"]


def test_fetched_keys_reach_the_rules_that_name_their_location() -> None:
    both = tokens(
        "both-01",
        {"issuer": "https://one.example/", "jwksUri": "https://one.example/keys"},
        {"issuer": "https://two.example/"},
        {"issuer": "inline@example", "jwks": "inline"},
        {"issuer": "nobody@example"},
    )
    locations = request_authentication.key_set_locations([both])
    assert locations == {"https://one.example/keys", "https://two.example/.well-known/openid-configuration"}

    set_of = objects(both)
    before = build.snapshot(set_of, MeshConfig())
    after = build.snapshot(set_of, MeshConfig(), before, key_sets={"https://one.example/keys": "fetched"})

    def keys(snapshot: Any) -> list[str]:
        return [rule.key_set for rule in for_proxy(snapshot, Proxy("shop")).inbound.token_rules]

    assert keys(before) == ["", "", "inline", ""]
    assert keys(after) == ["fetched", "", "inline", ""]


def test_a_change_of_rules_reaches_their_namespace_only() -> None:
    first = build.snapshot(objects(tokens("own-01", {"issuer": "a"})), MeshConfig())
    second = build.snapshot(objects(tokens("own-01", {"issuer": "b"})), MeshConfig(), first)

    assert [each.issuer for each in for_proxy(second, Proxy("shop")).inbound.token_rules] == ["b"]
    assert for_proxy(second, Proxy("other")).inbound is for_proxy(first, Proxy("other")).inbound
