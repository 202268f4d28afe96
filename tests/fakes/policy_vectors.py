"""Made-up cases in the form of the conformance vectors, with what the evaluator says of each."""

import functools
from collections.abc import Iterator
from random import Random
from typing import Any

from fakes import policy_cases
from fakes.policy_cases import TRUST, Case
from mutua.mesh.proxy_view import EffectivePolicy, Operation, Source
from mutua.verdict.authorization import Authorization
from mutua.verdict.request import HttpRequest

CALLS_PER_POLICIES = 12


def generate(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """`count` cases; several calls meet the same policies, as building those is what takes time."""
    random = Random(seed)  # noqa: S311 - the same cases for the same seed
    while count > 0:
        policies = policy_cases.case(random)
        for _ in range(min(CALLS_PER_POLICIES, count)):
            call = policy_cases.case(random)
            yield as_vector(call._replace(policies=policies.policies, normalization=policies.normalization))
        count -= CALLS_PER_POLICIES


def as_vector(case: Case) -> dict[str, Any]:
    """The case as plain data."""
    request = case.request and _as_sent(case.request)
    decision = _authorization(case.policies, case.normalization).decide(case.connection, request, case.claims)
    refused_unheard = "answers 400" in decision.reason
    connection = case.connection
    return {
        "policies": [_manifest(policy) for policy in case.policies],
        "mesh": {
            "trustDomain": TRUST.domains[0],
            "trustDomainAliases": TRUST.domains[1:],
            "rootNamespace": "root",
            "pathNormalization": case.normalization,
        },
        "workload": {"namespace": "foo"},
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


@functools.lru_cache(maxsize=4)
def _authorization(policies: tuple[EffectivePolicy, ...], normalization: str) -> Authorization:
    return Authorization(policies, TRUST, normalization)


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
