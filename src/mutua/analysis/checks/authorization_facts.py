"""What AuthorizationPolicies ask for, and which identities there are."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from mutua.analysis import words
from mutua.api.kinds import Key
from mutua.api.security import Operation, Rule, Source
from mutua.errors import InvalidInputError
from mutua.mesh.snapshot import MeshSnapshot
from mutua.spiffe import SCHEME, SpiffeId
from mutua.verdict import matchers

IDENTITY_CONDITIONS: Final = frozenset({"source.principal", "source.namespace", "source.serviceAccount"})
_ANY: Final = "*"


def means_namespace(value: str, name: str) -> bool:
    """Whether a value of `namespaces` matches identities of a namespace."""
    return matchers.namespace(value)(str(SpiffeId("any", name, "any")))


def http_fields(rule: Rule) -> set[str]:
    """The fields of a rule that can be seen in requests only, as users write them."""
    found: set[str] = set()
    for entry in rule.to or ():
        operation = entry.operation or Operation()
        for name in ("hosts", "methods", "paths"):
            found.update({name} if getattr(operation, name) else ())
            found.update({f"not{name.capitalize()}"} if getattr(operation, f"not_{name}") else ())
    for from_ in rule.from_ or ():
        source = from_.source or Source()
        found.update({"requestPrincipals"} if source.request_principals else ())
        found.update({"notRequestPrincipals"} if source.not_request_principals else ())
    for condition in rule.when or ():
        if condition.key.startswith(("request.headers", "request.auth.")):
            found.add(condition.key)
    return found


class Identities(msgspec.Struct, frozen=True, eq=False):
    """Who can prove to be whom, and who could if it had a sidecar."""

    principals: frozenset[str]  # trust domain/ns/NAMESPACE/sa/ACCOUNT, of pods with a sidecar
    accounts: frozenset[str]  # NAMESPACE/ACCOUNT of the same
    bare: Mapping[str, frozenset[str]]  # NAMESPACE/ACCOUNT to the pods without a sidecar that run as it
    names: Mapping[str, frozenset[str]]  # NAMESPACE/NAME of a pod's app to the accounts it runs as
    namespaces: frozenset[str]  # where there is a pod
    idle: frozenset[str]  # NAMESPACE/ACCOUNT of service accounts that exist, and that no pod runs as now
    trust_domain: str

    def has(self, value: str) -> bool:
        """Whether a pod's principal matches a value of a policy."""
        if _ANY not in value:
            return value in self.principals
        test = matchers.identity(value)
        return any(test(SCHEME + one) for one in self.principals)

    def may_judge(self, principal: str, is_complete: bool) -> bool:
        """Whether enough is known to say that nobody is it."""
        return is_complete or _parts(principal)[0] in self.namespaces

    def may_judge_account(self, account: str, is_complete: bool) -> bool:
        """The same for NAMESPACE/ACCOUNT."""
        return is_complete or account.partition("/")[0] in self.namespaces

    def nearest(self, principal: str) -> str:
        """The principal that was probably meant; "" if none comes near."""
        namespace, account = _parts(principal)
        found = self.nearest_account(f"{namespace}/{account}") if account else ""
        if found:
            return _principal(self.trust_domain, found)
        return words.nearest(principal.strip(_ANY), self.principals)

    def nearest_account(self, account: str) -> str:
        """The account that the app of this name runs as, else the most similar one of the namespace, or its only."""
        namespace, _, name = account.partition("/")
        by_app = self.names.get(account, frozenset())
        if len(by_app) == 1:
            return f"{namespace}/{next(iter(by_app))}"
        here = {one for one in self.accounts if one.startswith(f"{namespace}/")}
        similar = words.nearest(account, {one for one in here if words.nearest(name, [one.partition("/")[2]])})
        if similar:
            return similar
        if len(here) == 1:
            return next(iter(here))
        elsewhere = {one for one in self.accounts if one.partition("/")[2] == name}
        return words.nearest(account, elsewhere)

    def is_idle(self, value: str) -> bool:
        """Whether this principal or NAMESPACE/ACCOUNT is that of pods which may come, as of a job."""
        namespace, account = _parts(value)
        return (f"{namespace}/{account}" if account else value) in self.idle

    def without_sidecar(self, value: str) -> frozenset[str]:
        """Pods that run as this principal or NAMESPACE/ACCOUNT, and cannot prove it."""
        namespace, account = _parts(value)
        return self.bare.get(f"{namespace}/{account}" if account else value, frozenset())


def identities_of(snapshot: MeshSnapshot, existing: Iterable[Key]) -> Identities:
    """The identities of all pods and WorkloadEntries, beside the service accounts that exist."""
    accounts: set[str] = set()
    bare: dict[str, set[str]] = {}
    names: dict[str, set[str]] = {}
    everybody = [*snapshot.workloads.values(), *(each for each in snapshot.machines if each.service_account)]
    for workload in everybody:
        account = f"{workload.namespace}/{workload.service_account}"
        if not workload.has_sidecar:
            bare.setdefault(account, set()).add(workload.name)
            continue
        accounts.add(account)
        app = dict(workload.labels).get("app", workload.name)
        names.setdefault(f"{workload.namespace}/{app}", set()).add(workload.service_account)
    domains = snapshot.trust.domains
    return Identities(
        frozenset(_principal(domain, account) for domain in domains for account in accounts),
        frozenset(accounts),
        _frozen({key: value for key, value in bare.items() if key not in accounts}),
        _frozen(names),
        frozenset(workload.namespace for workload in everybody),
        frozenset(f"{namespace}/{name}" for namespace, name in existing) - accounts - bare.keys(),
        domains[0],
    )


def matches_somebody(source: Source, namespace: str, known: Identities, is_complete: bool) -> bool:
    """Whether a pod may have an identity that the source asks for; True where too little is known."""
    if source.principals and all(known.may_judge(value, is_complete) for value in source.principals):
        return any(known.has(value) or known.is_idle(value) for value in source.principals)
    if source.service_accounts:
        full = [value if "/" in value else f"{namespace}/{value}" for value in source.service_accounts]
        return any(
            not known.may_judge_account(one, is_complete) or one in known.accounts or known.is_idle(one) for one in full
        )
    if source.namespaces and is_complete:
        return any(means_namespace(value, one) for value in source.namespaces for one in known.namespaces)
    return True


def _principal(domain: str, account: str) -> str:
    namespace, _, name = account.partition("/")
    return str(SpiffeId(domain, namespace, name)).removeprefix(SCHEME)


def _parts(principal: str) -> tuple[str, str]:
    """Namespace and account of a principal; ("", "") if it does not have that form."""
    try:
        identity = SpiffeId.parse(SCHEME + principal)
    except InvalidInputError:
        return "", ""
    return identity.namespace, identity.service_account


def _frozen(sets: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    return {key: frozenset(values) for key, values in sets.items()}
