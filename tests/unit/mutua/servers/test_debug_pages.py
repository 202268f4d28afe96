"""The control plane's state is shown to whoever holds a token for it, and to nobody else."""

import msgspec
import pytest
from starlette.testclient import TestClient

from mutua.ca.caller import TokenReviewStatus, TokenReviewUser
from mutua.mesh.proxy_view import InboundPort, InboundView, MtlsMode, Protocol, Trust
from mutua.reports.proxy_status import PlaintextSeen, ProxyState
from mutua.reports.traffic import TrafficPage
from mutua.servers import debug
from mutua.servers.xds_connection import ProxyStatus
from mutua.spiffe import SpiffeId
from mutua.xds.node import Node
from mutua.xds.status import TypeStatus
from mutua.xds.sync_state import Sent, SyncState

GOOD = "system:serviceaccount:istio-system:mutua-debug"
SEEN = PlaintextSeen("shop/client", "shop/web", 80, False, 3, "the client has no sidecar")


def pages(status: TokenReviewStatus | Exception) -> TestClient:
    async def review(token: str, audiences: tuple[str, ...]) -> TokenReviewStatus:
        assert (token, audiences) == ("token", ("mutua-debug",))
        if isinstance(status, Exception):
            raise status
        return status

    async def traffic(where: str) -> TrafficPage:
        return TrafficPage("istiod-1", silent=(where,))

    return TestClient(
        debug.application(
            review,
            "istio-system",
            lambda _: [],
            lambda where: [SEEN] if where != "other" else [],
            sent=lambda namespace, pod, bodies: [Sent("CDS", f"{namespace}/{pod}", "1", b"body" if bodies else b"")],
            traffic=traffic,
        )
    )


def reviewed(username: str, audience: str = "mutua-debug", *, authenticated: bool = True) -> TokenReviewStatus:
    return TokenReviewStatus(authenticated, TokenReviewUser(username=username), (audience,))


def test_the_right_token_opens_the_page() -> None:
    answer = pages(reviewed(GOOD)).get("/plaintext", headers={"Authorization": "Bearer token"})

    assert answer.status_code == 200
    assert msgspec.json.decode(answer.content, type=list[PlaintextSeen]) == [SEEN]


def test_traffic_is_asked_for_by_namespace() -> None:
    answer = pages(reviewed(GOOD)).get("/traffic?namespace=shop", headers={"Authorization": "Bearer token"})

    assert msgspec.json.decode(answer.content, type=list[TrafficPage]) == [TrafficPage("istiod-1", silent=("shop",))]
    assert pages(reviewed("somebody")).get("/traffic", headers={"Authorization": "Bearer token"}).status_code == 401


@pytest.mark.parametrize(("query", "body"), [("", b""), ("&bodies=true", b"body"), ("&bodies=1", b"")])
def test_what_a_proxy_was_sent(query: str, body: bytes) -> None:
    answer = pages(reviewed(GOOD)).get(
        f"/sent?namespace=shop&pod=web-1{query}", headers={"Authorization": "Bearer token"}
    )

    assert msgspec.json.decode(answer.content, type=list[Sent]) == [Sent("CDS", "shop/web-1", "1", body)]


@pytest.mark.parametrize(
    "status",
    [
        reviewed("system:serviceaccount:shop:mutua-debug"),
        reviewed("system:serviceaccount:istio-system:istiod"),
        reviewed(GOOD, "istio-ca"),
        reviewed(GOOD, authenticated=False),
        ConnectionError("no API server"),
    ],
)
@pytest.mark.parametrize("page", ["/syncz", "/plaintext", "/sent"])
def test_any_other_token_opens_nothing(page: str, status: TokenReviewStatus | Exception) -> None:
    assert pages(status).get(page, headers={"Authorization": "Bearer token"}).status_code == 401


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic dG9rZW4="}])
def test_without_a_token_nothing_is_even_asked(headers: dict[str, str]) -> None:
    assert pages(AssertionError()).get("/syncz", headers=headers).status_code == 401


def test_a_proxy_tells_which_modes_it_was_given_and_whether_it_has_them() -> None:
    ports = (InboundPort(80, Protocol.HTTP, MtlsMode.STRICT, "web"),)
    inbound = InboundView(Trust(), MtlsMode.STRICT, ((90, MtlsMode.PERMISSIVE),), ports, ())
    node = Node.parse("sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local")
    identity = SpiffeId("cluster.local", "shop", "web")
    states = {
        state: debug.proxy_states(
            [ProxyStatus(node, identity, (TypeStatus("LDS", state),), inbound)], "istiod", "1", "c", lambda *_: ""
        )[0]
        for state in SyncState
    }

    assert [state for state, proxy in states.items() if proxy.has_its_listeners] == [SyncState.SYNCED]
    proxy = states[SyncState.SYNCED]
    assert [proxy.accepts(port) for port in (80, 90, 91)] == [MtlsMode.STRICT, MtlsMode.PERMISSIVE, MtlsMode.STRICT]
    assert msgspec.json.decode(msgspec.json.encode(proxy), type=ProxyState) == proxy


def test_one_namespace_can_be_asked_for() -> None:
    headers = {"Authorization": "Bearer token"}
    found = {
        name: len(pages(reviewed(GOOD)).get(f"/plaintext?namespace={name}", headers=headers).json())
        for name in ("shop", "other")
    }

    assert found == {"shop": 1, "other": 0}


def test_who_looks_often_is_reviewed_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    moment = 0.0
    monkeypatch.setattr(debug.time, "monotonic", lambda: moment)

    async def review(token: str, audiences: tuple[str, ...]) -> TokenReviewStatus:
        asked.append(token)
        return reviewed(GOOD, authenticated=token != "bad")

    async def traffic(_: str) -> TrafficPage:
        return TrafficPage("istiod-1")

    client = TestClient(
        debug.application(review, "istio-system", lambda _: [], lambda _: [], lambda *_, bodies: [], traffic)
    )
    codes = []
    for token, moment in (("a", 0.0), ("a", 4.9), ("a", 5.1), ("bad", 6.0), ("bad", 6.1)):  # noqa: B007 - the clock
        codes.append(client.get("/syncz", headers={"Authorization": f"Bearer {token}"}).status_code)

    assert codes == [200, 200, 200, 401, 401]
    assert asked == ["a", "a", "bad", "bad"]
