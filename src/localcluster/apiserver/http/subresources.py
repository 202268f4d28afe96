"""Requests that do something rather than store something: binding, eviction, tokens, and reviews."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from localcluster.apiserver import kinds, selectors
from localcluster.apiserver.authn import Authenticator
from localcluster.apiserver.authorization import reviews
from localcluster.apiserver.context import RequestContext, UserInfo
from localcluster.apiserver.errors import (
    BadRequestError,
    ConflictError,
    MethodNotAllowedError,
    TooManyRequestsError,
)
from localcluster.apiserver.http import negotiation
from localcluster.apiserver.http.targets import Target
from localcluster.apiserver.http.verbs import context_of
from localcluster.apiserver.metadata import timestamp
from localcluster.apiserver.resources import Resources

Object = dict[str, Any]

ACTIONS = frozenset({"binding", "eviction", "token"})
REVIEWS = frozenset(kind.plural for kind in kinds.BUILTIN if kind.verbs == kinds.CREATE_ONLY)


class Actions:
    """Answers the subresources in `ACTIONS` and the kinds in `REVIEWS`."""

    def __init__(self, resources: Resources, authenticator: Authenticator) -> None:
        """Act on `resources`; tokens come from `authenticator`."""
        self._resources = resources
        self._authenticator = authenticator

    async def answer(self, request: Request, target: Target, user: UserInfo) -> Response:
        """The response to a POST."""
        if request.method != "POST":
            raise MethodNotAllowedError("the server does not allow this method on the requested resource")
        context = context_of(request, user)
        document = await negotiation.document_of(request)
        if not isinstance(document, dict):
            raise BadRequestError("the body of the request must be one object")
        match target.subresource or target.kind.plural:
            case "binding":
                shown = await self._bind(target, document, context)
            case "eviction":
                shown = await self._evict(target, document, context)
            case "token":
                account = await self._resources.get(target.kind, target.namespace or "", target.name)
                shown = await self._authenticator.authority.request(account, document, datetime.now(UTC))
            case "tokenreviews":
                shown = await self._authenticator.review(document)
            case "selfsubjectreviews":
                shown = _answered(document, target.kind, {"userInfo": user.as_json()})
            case "selfsubjectrulesreviews":
                status = reviews.rules(self._resources.authorizer, document, user)
                shown = _answered(document, target.kind, status)
            case plural:
                about_self, local = plural == "selfsubjectaccessreviews", target.namespace
                status = reviews.access(self._resources.authorizer, document, user, local, about_self=about_self)
                shown = _answered(document, target.kind, status)
        return negotiation.answer(shown, code=201, warnings=context.warnings)

    async def _bind(self, target: Target, binding: Object, context: RequestContext) -> Object:
        node = (binding.get("target") or {}).get("name")
        if not node:
            raise BadRequestError("target.name: the node's name is missing")

        def bind(pod: Object) -> Object:
            spec = pod.setdefault("spec", {})
            if spec.get("nodeName"):
                raise ConflictError(
                    f'Operation cannot be fulfilled on pods/binding "{target.name}": pod {target.name} is already '
                    f'assigned to node "{spec["nodeName"]}"',
                    resource="pods/binding",
                    name=target.name,
                )
            spec["nodeName"] = node
            status = pod.setdefault("status", {})
            condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None}
            condition["lastTransitionTime"] = timestamp()
            others = [item for item in status.get("conditions") or () if item.get("type") != "PodScheduled"]
            status["conditions"] = [*others, condition]
            return pod

        await self._resources.modify(target.kind, target.namespace or "", target.name, bind, context)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    async def _evict(self, target: Target, eviction: Object, context: RequestContext) -> Object:
        namespace = target.namespace or ""
        pod = await self._resources.get(target.kind, namespace, target.name)
        labels = pod["metadata"].get("labels") or {}
        budgets, _ = await self._resources.list(kinds.POD_DISRUPTION_BUDGET, namespace)
        for budget in budgets:
            covers = selectors.structured((budget.get("spec") or {}).get("selector"))
            if covers(labels) and not (budget.get("status") or {}).get("disruptionsAllowed"):
                raise TooManyRequestsError(
                    "Cannot evict pod as it would violate the pod's disruption budget.", retry_after_seconds=10
                )
        options = eviction.get("deleteOptions") or {}
        await self._resources.delete(target.kind, namespace, target.name, options, context)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _answered(document: Object, kind: kinds.KindInfo, status: Object) -> Object:
    review: Object = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": {"creationTimestamp": timestamp()}}
    if "spec" in document:
        review["spec"] = document["spec"]
    return {**review, "status": status}
