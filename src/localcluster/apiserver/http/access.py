"""What a request asks for, in the authorizer's terms, and as whom: verbs of methods, names in selectors, headers."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from localcluster.apiserver import selectors
from localcluster.apiserver.authorization.rbac import Authorizer
from localcluster.apiserver.authorization.rules import Attributes
from localcluster.apiserver.context import UserInfo
from localcluster.apiserver.errors import BadRequestError
from localcluster.apiserver.http.targets import Target
from localcluster.apiserver.kinds import NAMESPACE

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_AUTHENTICATION = "authentication.k8s.io"
_ACCOUNT_PREFIX = "system:serviceaccount:"
_ANONYMOUS = "system:anonymous"
_AUTHENTICATED = "system:authenticated"


def of_target(method: str, query: Mapping[str, str], target: Target, user: UserInfo) -> Attributes:
    """The attributes of a request for a resource."""
    kind, name = target.kind, target.name
    if method in ("GET", "HEAD"):
        watches = query.get("watch") in ("true", "1") and not target.subresource
        verb = "watch" if watches else "get" if name else "list"
    else:
        verb = _VERBS.get(method, method.lower())
        if verb == "delete" and not name:
            verb = "deletecollection"
    if not name and verb in ("list", "watch", "deletecollection"):
        # A rule with resourceNames lets its holder list and watch just that object.
        name = selectors.only_name(query.get("fieldSelector"))
    namespace = target.namespace or (target.name if kind.storage_key == NAMESPACE.storage_key else "")
    return Attributes(user, verb, namespace, kind.group, kind.plural, target.subresource, name)


def of_path(method: str, path: str, user: UserInfo) -> Attributes:
    """The attributes of a request for anything else."""
    return Attributes(user, "get" if method == "HEAD" else method.lower(), path=path)


def impersonated(headers: Mapping[str, str], groups: list[str], user: UserInfo, authorizer: Authorizer) -> UserInfo:
    """Whom the caller wants to act as (`Impersonate-*` headers); itself without them.

    `groups` are the values of the repeatable `Impersonate-Group`. ForbiddenError without the right to `impersonate`
    each part; BadRequestError for parts without a user.
    """
    wanted, uid = headers.get("impersonate-user", ""), headers.get("impersonate-uid", "")
    prefix = "impersonate-extra-"
    extra = {
        unquote(name[len(prefix) :]): tuple(part for part in value.split(",") if part)
        for name, value in headers.items()
        if name.startswith(prefix)
    }
    if not wanted:
        if groups or uid or extra:
            raise BadRequestError("requested impersonation without impersonating a user: Impersonate-User is missing")
        return user
    account = wanted.removeprefix(_ACCOUNT_PREFIX) if wanted.startswith(_ACCOUNT_PREFIX) else ""
    if account:
        namespace, _, name = account.partition(":")
        authorizer.require(Attributes(user, "impersonate", namespace, resource="serviceaccounts", name=name))
    else:
        authorizer.require(Attributes(user, "impersonate", resource="users", name=wanted))
    for group in groups:
        authorizer.require(Attributes(user, "impersonate", resource="groups", name=group))
    if uid:
        authorizer.require(Attributes(user, "impersonate", group=_AUTHENTICATION, resource="uids", name=uid))
    for key, values in extra.items():
        for value in values:
            authorizer.require(
                Attributes(
                    user, "impersonate", group=_AUTHENTICATION, resource="userextras", subresource=key, name=value
                )
            )
    if account and not groups:
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{account.partition(':')[0]}"]
    if wanted != _ANONYMOUS and _AUTHENTICATED not in groups:
        groups = [*groups, _AUTHENTICATED]
    return UserInfo(wanted, uid, tuple(groups), extra)
