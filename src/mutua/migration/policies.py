"""The PeerAuthentications of a migration: the one of each workload, and the one of the namespace."""

from typing import Any, Final

from mutua.api import decode, kinds
from mutua.api.dry_run import is_dry_run
from mutua.api.meta import age_order
from mutua.api.security import PeerAuthentication
from mutua.mesh.objects import Change, ObjectSet
from mutua.mesh.proxy_view import MtlsMode
from mutua.migration.machine import Before, Migration, Step

KIND: Final = kinds.PEER_AUTHENTICATION
OWNER_LABEL: Final = "app.kubernetes.io/managed-by"
OWNER: Final = "mutua-migrate"
DEFAULT_NAME: Final = "default"
CHANGED_BY: Final = "mutua/migrated-by"
_BEFORE: Final = "mutua/mode-before"
_PREFIX: Final = "mutua-migrate-"
_LONGEST_NAME: Final = 253


def name_of(step: Step) -> str:
    """The name of a workload's policy."""
    return f"{_PREFIX}{step.name}"[:_LONGEST_NAME]


def is_ours(item: PeerAuthentication) -> bool:
    """Whether a migration made the policy."""
    return item.metadata.labels.get(OWNER_LABEL) == OWNER


def was_changed_by(item: PeerAuthentication, target: MtlsMode) -> bool:
    """Whether a migration gave the namespace's policy the mode that it has now."""
    mode = item.spec.mtls.mode.value if item.spec.mtls else None
    return CHANGED_BY in item.metadata.annotations and mode == target.value


def of_workload(state: Migration, step: Step) -> dict[str, Any]:
    """The policy that makes one workload STRICT."""
    before = f"{state.before.mode or 'UNSET'} by {state.before.name}" if state.before.name else "no policy"
    return _document(
        state.namespace,
        name_of(step),
        {CHANGED_BY: state.by, _BEFORE: before},
        {"selector": {"matchLabels": dict(step.selector)}, "mtls": {"mode": MtlsMode.STRICT.value}},
    )


def of_namespace(state: Migration, name: str) -> dict[str, Any]:
    """The policy of a namespace that had none."""
    annotations = {CHANGED_BY: state.by, _BEFORE: "no policy"}
    return _document(state.namespace, name, annotations, {"mtls": {"mode": state.target.value}})


def namespace_patch(mode: str | None) -> dict[str, Any]:
    """The merge patch that changes the mode of the namespace's policy, and nothing else; None takes it out."""
    return {"spec": {"mtls": {"mode": mode} if mode else None}}


def namespace_policy(objects: ObjectSet, namespace: str) -> PeerAuthentication | None:
    """The policy that counts at the level of the namespace: the oldest without a selector, dry runs aside."""
    own = [
        item
        for item in objects.typed(KIND, PeerAuthentication).values()
        if item.metadata.namespace == namespace
        and not (item.spec.selector and item.spec.selector.match_labels)
        and not is_dry_run(item.metadata)
    ]
    return min(own, key=lambda item: age_order(item.metadata)) if own else None


def before(objects: ObjectSet, namespace: str) -> Before:
    """What the namespace's policy says now."""
    item = namespace_policy(objects, namespace)
    if item is None:
        return Before()
    return Before(item.metadata.name, item.spec.mtls.mode.value if item.spec.mtls else None)


def free_name(objects: ObjectSet, namespace: str) -> str:
    """A name for the namespace's policy that no other policy has."""
    taken = {name for where, name in objects.of_kind(KIND) if where == namespace}
    return DEFAULT_NAME if DEFAULT_NAME not in taken else f"{_PREFIX}namespace"


def as_target(objects: ObjectSet, namespace: str, target: MtlsMode) -> ObjectSet:
    """The objects as they will be when the migration has ended."""
    gone = [
        Change(KIND, key, None)
        for key, item in objects.typed(KIND, PeerAuthentication).items()
        if key[0] == namespace and is_ours(item) and item.spec.selector
    ]
    current = namespace_policy(objects, namespace)
    name = current.metadata.name if current else free_name(objects, namespace)
    metadata = {
        "name": name,
        "namespace": namespace,
        "creationTimestamp": current.metadata.creation_timestamp if current else "",
    }
    document = {"metadata": metadata, "spec": {"mtls": {"mode": target.value}}}
    made = decode.from_mapping(KIND, document).value
    return objects.replace([*gone, Change(KIND, (namespace, name), made)])


def _document(namespace: str, name: str, annotations: dict[str, str], spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": KIND.api_version,
        "kind": KIND.name,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {OWNER_LABEL: OWNER},
            "annotations": annotations,
        },
        "spec": spec,
    }
