"""The cures that a diagnosis proposes: commands to type, and the same as changes of objects."""

from collections.abc import Iterable

import msgspec

from mutua.reports.diagnosis_facts import Change, Evidence, Fix, Side
from mutua.verdict.call import Step, Taken

_INJECT = "sidecar.istio.io/inject"


def describe(side: Side) -> Fix:
    """Where to read on."""
    return Fix((f"kubectl describe pod {side.name} -n {side.namespace}",))


def agent_log(side: Side) -> Fix:
    """What the sidecar itself says."""
    return Fix((f"kubectl logs {side.name} -n {side.namespace} -c istio-proxy --tail=50",))


def edit(objects: Iterable[str]) -> Fix:
    """Objects, each as in "DestinationRule shop/default", that a person must correct."""
    commands = []
    for item in objects:
        kind, _, where = item.partition(" ")
        namespace, _, name = where.partition("/")
        commands.append(f"kubectl edit {kind.lower()} {name} -n {namespace}")
    return Fix(tuple(commands))


def restart(*sides: Side) -> Fix:
    """New pods, which ask for new certificates."""
    commands = tuple(
        f"kubectl rollout restart deployment/{side.owner} -n {side.namespace}"
        if side.owner
        else f"kubectl delete pod {side.name} -n {side.namespace}"
        for side in sides
    )
    return Fix(commands, tuple(_restarted(side) for side in sides if side.owner))


def inject(side: Side) -> Fix:
    """A sidecar for a pod that has none. A pod that nobody makes again can only be made anew by its owner."""
    again = (
        f"kubectl rollout restart deployment/{side.owner} -n {side.namespace}"
        if side.owner
        else f"kubectl delete pod {side.name} -n {side.namespace}   # and create it again"
    )
    if side.would_be_injected:
        # It is older than the label, or the webhook was away: only a new pod gets a sidecar.
        return Fix((again,), (_restarted(side),) if side.owner else ())
    if "istio-injection" in side.injection or "No matching namespace labels" in side.injection:
        label = f"kubectl label namespace {side.namespace} istio-injection=enabled --overwrite"
        namespace = Change("Namespace", "", side.namespace, {"metadata": {"labels": {"istio-injection": "enabled"}}})
        return Fix((label, again), (namespace, _restarted(side)) if side.owner else (namespace,))
    if side.owner:
        removed = {_INJECT: None}
        template = {"metadata": {"annotations": removed, "labels": removed}}
        change = Change("Deployment", side.namespace, side.owner, {"spec": {"template": template}})
        return Fix((_typed(change),), (change,))
    return Fix((f"kubectl annotate pod {side.name} -n {side.namespace} {_INJECT}-   # in its manifest", again))


def client_rule(evidence: Evidence, mode: str) -> Fix:
    """The mode of the DestinationRule that decides, or a rule for this host where none does."""
    rule = evidence.outcome.steps[0].decided_by if evidence.outcome else None
    if rule is not None and evidence.rule_mode_path == "spec.trafficPolicy.tls.mode" and mode != "DISABLE":
        body = {"spec": {"trafficPolicy": {"tls": {"mode": mode}}}}
        change = Change("DestinationRule", rule.namespace, rule.name, body)
        return Fix((_typed(change),), (change,))
    host = evidence.host
    namespace = evidence.client.namespace
    name = f"{host.partition('.')[0]}-{mode.lower().replace('_', '-')}"
    spec = {"host": host, "trafficPolicy": {"tls": {"mode": mode}}}
    manifest = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    return Fix((), (Change("DestinationRule", namespace, name, manifest, merge=False),))


def authorize(evidence: Evidence, taken: Taken) -> Fix:
    """A policy that lets this client in, where nothing allows it; what denies by name is for a person to decide."""
    server, client = evidence.server, evidence.client
    if taken.step is not Step.ALLOW or server is None or not client.has_sidecar:
        by = taken.decided_by
        return Fix((f"kubectl edit authorizationpolicy {by.name} -n {by.namespace}",)) if by else Fix()
    app = server.labels.get("app", "")
    name = f"{app or server.name}-from-{client.service_account}"
    principal = client.expected_identity.removeprefix("spiffe://")
    spec = {
        **({"selector": {"matchLabels": {"app": app}}} if app else {}),
        "action": "ALLOW",
        "rules": [{"from": [{"source": {"principals": [principal]}}]}],
    }
    manifest = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": server.namespace},
        "spec": spec,
    }
    return Fix((), (Change("AuthorizationPolicy", server.namespace, name, manifest, merge=False),))


def _typed(change: Change) -> str:
    """A change as its command."""
    patch = msgspec.json.encode(change.body).decode()
    return f"kubectl patch {change.kind.lower()} {change.name} -n {change.namespace} --type=merge -p '{patch}'"


def _restarted(side: Side) -> Change:
    stamp = {"mutua.dev/restarted-for": side.name}
    body = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
    return Change("Deployment", side.namespace, side.owner, body)
