"""Made-up cases in the form of the conformance vectors, with what the evaluator says of each."""

from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any

from fakes import policy_cases
from fakes.policy_cases import TRUST, Case
from mutua.mesh.proxy_view import EffectivePolicy, Operation, Source
from mutua.verdict.authorization import Authorization
from mutua.verdict.request import HttpRequest

CALLS_PER_POLICIES = 12
"""Few, so that many different policies are met by few calls."""

REQUESTS_PER_CONNECTION = 12


def generate(seed: int, count: int, calls: int = CALLS_PER_POLICIES) -> Iterator[dict[str, Any]]:
    """`count` cases, each one request or one connection of bytes.

    `calls` of them meet the same policies, as building those is what takes time, and requests come over kept
    connections as from any client.
    """
    random = Random(seed)  # noqa: S311 - the same cases for the same seed
    while count > 0:
        policies, normalization = policy_cases.policies(random), random.choice(policy_cases.NORMALIZATIONS)
        fixed = _fixed(policies, normalization)
        decides = Authorization(policies, TRUST, normalization)
        for call in islice(_calls(random), min(calls, count)):
            yield {**fixed, **_judged(call, decides)}
        count -= calls


def as_vector(case: Case) -> dict[str, Any]:
    """The case as plain data."""
    decides = Authorization(case.policies, TRUST, case.normalization)
    return {**_fixed(case.policies, case.normalization), **_judged(case, decides)}


def _calls(random: Random) -> Iterator[Case]:
    """Calls without end; of those over one connection, one after the other."""
    while True:
        first = policy_cases.call(random)
        yield first
        if first.request is not None:
            more = (policy_cases.call(random) for _ in range(random.randrange(REQUESTS_PER_CONNECTION)))
            yield from (each._replace(connection=first.connection) for each in more if each.request is not None)


def _fixed(policies: Sequence[EffectivePolicy], normalization: str) -> dict[str, Any]:
    """What a vector says about the workload that is called."""
    return {
        "policies": [_manifest(policy) for policy in policies],
        "mesh": {
            "trustDomain": TRUST.domains[0],
            "trustDomainAliases": TRUST.domains[1:],
            "rootNamespace": "root",
            "pathNormalization": normalization,
        },
        "workload": {"namespace": "foo"},
    }


def _judged(case: Case, decides: Authorization) -> dict[str, Any]:
    """What a vector says about the call, and what the evaluator says of it."""
    request = case.request and _as_sent(case.request)
    decision = decides.decide(case.connection, request, case.claims)
    refused_unheard = "answers 400" in decision.reason
    connection = case.connection
    return {
        "request": {
            "protocol": "tcp" if request is None else "http",
            "mtls": connection.peer is not None,
            "principal": connection.peer.uri_names[0] if connection.peer else "",
            "source_ip": connection.source_ip,
            "destination_ip": connection.destination_ip,
            "destination_port": connection.destination_port,
            "method": request.method if request else "",
            "path": request.target if request else "",
            "host": request.authority if request else "",
            "headers": _grouped(request) if request else {},
            "sni": connection.server_name,
            "jwt_claims": case.claims or {},
        },
        "expect": "400" if refused_unheard else "allow" if decision.allowed else "deny",
        "why": decision.reason,
    }


def _as_sent(request: HttpRequest) -> HttpRequest:
    """With lines of the same header together."""
    headers = tuple((name, line) for name, lines in _grouped(request).items() for line in lines)
    return HttpRequest(method=request.method, target=request.target, authority=request.authority, headers=headers)


def _grouped(request: HttpRequest) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in request.headers:
        found.setdefault(name, []).append(value)
    return found


def _manifest(policy: EffectivePolicy) -> dict[str, Any]:
    rules = [
        {
            "from": [{"source": _fields(each)} for each in rule.sources],
            "to": [{"operation": _fields(each)} for each in rule.operations],
            "when": [
                {"key": each.key, "values": list(each.values), "notValues": list(each.not_values)}
                for each in rule.conditions
            ],
        }
        for rule in policy.rules
    ]
    annotations = {"istio.io/dry-run": "true"} if policy.dry_run else {}
    metadata = {"namespace": policy.namespace, "name": policy.name, "annotations": annotations}
    return {"metadata": metadata, "spec": {"action": policy.action.value, "rules": rules}}


def _fields(part: Source | Operation) -> dict[str, list[str]]:
    found = {}
    for name in part.__struct_fields__:
        if values := getattr(part, name):
            first, *rest = name.split("_")
            found[first + "".join(word.title() for word in rest)] = list(values)
    return found
