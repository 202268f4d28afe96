"""The control plane's state is shown to whoever holds a token for it, and to nobody else."""

import msgspec
import pytest
from starlette.testclient import TestClient

from mutua.ca.caller import TokenReviewStatus, TokenReviewUser
from mutua.reports.proxy_status import PlaintextSeen
from mutua.servers import debug

GOOD = "system:serviceaccount:istio-system:mutua-debug"
SEEN = PlaintextSeen("shop/client", "shop/web", 80, False, 3, "the client has no sidecar")


def pages(status: TokenReviewStatus | Exception) -> TestClient:
    async def review(token: str, audiences: tuple[str, ...]) -> TokenReviewStatus:
        assert (token, audiences) == ("token", ("mutua-debug",))
        if isinstance(status, Exception):
            raise status
        return status

    return TestClient(debug.application(review, "istio-system", list, lambda: [SEEN]))


def reviewed(username: str, audience: str = "mutua-debug", *, authenticated: bool = True) -> TokenReviewStatus:
    return TokenReviewStatus(authenticated, TokenReviewUser(username=username), (audience,))


def test_the_right_token_opens_the_page() -> None:
    answer = pages(reviewed(GOOD)).get("/plaintext", headers={"Authorization": "Bearer token"})

    assert answer.status_code == 200
    assert msgspec.json.decode(answer.content, type=list[PlaintextSeen]) == [SEEN]


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
@pytest.mark.parametrize("page", ["/syncz", "/plaintext"])
def test_any_other_token_opens_nothing(page: str, status: TokenReviewStatus | Exception) -> None:
    assert pages(status).get(page, headers={"Authorization": "Bearer token"}).status_code == 401


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic dG9rZW4="}])
def test_without_a_token_nothing_is_even_asked(headers: dict[str, str]) -> None:
    assert pages(AssertionError()).get("/syncz", headers=headers).status_code == 401
