"""How long it takes to judge one request, by the number of policies, and to read the policies of a namespace.

Prints one table; run it on a quiet machine: `python bench/verdict.py`.
"""

import time
from collections.abc import Callable

from mutua.api.meta import LabelSelector, ObjectMeta
from mutua.api.security import AuthorizationPolicy, AuthorizationPolicySpec, From, Operation, Rule, Source, To
from mutua.mesh.authorization import policies_in
from mutua.mesh.proxy_view import Trust
from mutua.reports.table import render
from mutua.verdict.authorization import Authorization
from mutua.verdict.request import Connection, HttpRequest, Peer

COUNTS = (1, 10, 100, 1000)
CONNECTION = Connection(
    source_ip="10.0.0.1",
    destination_ip="10.0.0.2",
    destination_port=8080,
    peer=Peer(("spiffe://cluster.local/ns/web/sa/frontend",)),
)
REQUEST = HttpRequest(method="POST", target="/api/orders/17?verbose=1", authority="backend", headers=(("x-a", "b"),))


def policy(number: int) -> AuthorizationPolicy:
    """As people write them: one identity, some methods and paths."""
    rule = Rule(
        from_=(From(Source(principals=(f"cluster.local/ns/web/sa/client-{number}",))),),
        to=(To(Operation(methods=("GET", "POST"), paths=(f"/api/{number}/*",))),),
    )
    metadata = ObjectMeta(name=f"policy-{number}", namespace="apps")
    spec = AuthorizationPolicySpec(selector=LabelSelector({"app": "backend"}), rules=(rule,))
    return AuthorizationPolicy(metadata=metadata, spec=spec)


def microseconds(work: Callable[[], object], repeat: int) -> float:
    """The fastest of several rounds."""
    fastest = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(repeat):
            work()
        fastest = min(fastest, (time.process_time() - start) / repeat)
    return fastest * 1e6


def main() -> None:
    rows = []
    for count in COUNTS:
        items = [policy(number) for number in range(count)]
        policies = tuple(selected.policy for selected in policies_in("apps", items))
        authorization = Authorization(policies, Trust())
        denied = authorization.decide(CONNECTION, REQUEST)
        assert not denied.allowed
        rows.append(
            (
                str(count),
                f"{microseconds(lambda items=items: policies_in('apps', items), 3):.0f}",
                f"{microseconds(lambda p=policies: Authorization(p, Trust()).decide(CONNECTION, REQUEST), 3):.0f}",
                f"{microseconds(lambda a=authorization: a.decide(CONNECTION, REQUEST), 20):.0f}",
            )
        )
    print(render(("policies", "read, µs", "first request, µs", "next request, µs"), rows), end="")


if __name__ == "__main__":
    main()
