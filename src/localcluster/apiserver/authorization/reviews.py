"""Answers to questions about rights: SubjectAccessReview and its kin, SelfSubjectRulesReview."""

from __future__ import annotations

from typing import Any

from localcluster.apiserver.authorization.rbac import Authorizer
from localcluster.apiserver.authorization.rules import Attributes
from localcluster.apiserver.context import UserInfo
from localcluster.apiserver.errors import BadRequestError, InvalidError, required

Object = dict[str, Any]


def access(
    authorizer: Authorizer, document: Object, user: UserInfo, namespace: str | None, *, about_self: bool
) -> Object:
    """The status of an access review: `allowed`, and the reason.

    `about_self`: about the caller. `namespace` is the URL's, for LocalSubjectAccessReview; the review must be about it.
    """
    spec: Object = document.get("spec") or {}
    subject = user if about_self else _subject(spec)
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if bool(resource) == bool(path):
        raise BadRequestError("exactly one of spec.resourceAttributes and spec.nonResourceAttributes is needed")
    if namespace is not None and (not resource or resource.get("namespace") != namespace):
        raise BadRequestError(f"spec.resourceAttributes.namespace must match namespace: {namespace!r}")
    if resource:
        names = ("verb", "namespace", "group", "resource", "subresource", "name")
        verb, *rest = (str(resource.get(name) or "") for name in names)
        # Without a resource nothing is asked for; "*" stands for every one, and only "*" rules allow it.
        rest[2] = rest[2] or "*"
        asked = Attributes(subject, verb or "*", *rest)
    else:
        path = path or {}
        asked = Attributes(subject, str(path.get("verb") or "*"), path=str(path.get("path") or "*"))
    decision = authorizer.decide(asked)
    return {"allowed": decision.allowed, **({"reason": decision.reason} if decision.reason else {})}


def rules(authorizer: Authorizer, document: Object, user: UserInfo) -> Object:
    """The status of a SelfSubjectRulesReview: what the caller may do in `spec.namespace`."""
    namespace = (document.get("spec") or {}).get("namespace")
    if not namespace:
        raise BadRequestError("no namespace on request: spec.namespace is missing")
    found = [rule.as_json() for rule in authorizer.rules_of(user, str(namespace))]
    return {
        "resourceRules": [rule for rule in found if "resources" in rule],
        "nonResourceRules": [rule for rule in found if "nonResourceURLs" in rule],
        "incomplete": False,
    }


def _subject(spec: Object) -> UserInfo:
    if not spec.get("user") and not spec.get("groups"):
        problem = required("spec.user", "at least one of user or group must be specified")
        raise InvalidError.of("SubjectAccessReview", "authorization.k8s.io", "", [problem])
    extra = {str(key): tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return UserInfo(str(spec.get("user") or ""), str(spec.get("uid") or ""), tuple(spec.get("groups") or ()), extra)
