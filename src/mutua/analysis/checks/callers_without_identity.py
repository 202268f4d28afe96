"""Callers that can have no certificate of the mesh, and whom STRICT shuts out: the API server, and scrapers."""

from collections.abc import Iterator
from typing import Any, Final

from mutua.analysis import words
from mutua.analysis.check import Check
from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message, Subject, istio, own, subject
from mutua.analysis.projection import SNAPSHOT_INPUTS, as_mapping, is_injector
from mutua.api import core, kinds
from mutua.api.admission import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from mutua.api.findings import Severity
from mutua.api.kinds import Kind
from mutua.injection import selectors
from mutua.injection.settings import UNCAPTURED_INBOUND_PORTS
from mutua.mesh.proxy_view import MtlsMode, ObjectRef
from mutua.mesh.workloads import Workload
from mutua.verdict import connection

_MUTATING: Final = kinds.MUTATING_WEBHOOK_CONFIGURATION
_VALIDATING: Final = kinds.VALIDATING_WEBHOOK_CONFIGURATION
_EXCLUDED_PORTS: Final = "traffic.sidecar.istio.io/excludeInboundPorts"
_SCRAPER: Final = "prometheus"
_INJECTION: Final = "istio-injection"
_REVISION: Final = "istio.io/rev"
_POD_INJECT: Final = "sidecar.istio.io/inject"


def webhooks(inputs: Inputs) -> Iterator[Message]:
    """Webhooks whose Service leads to a port that takes mutual TLS only."""
    snapshot = inputs.snapshot
    pods = snapshot.objects.typed(kinds.POD, core.Pod)
    for kind, item in _configurations(inputs):
        for index, webhook in enumerate(item.webhooks):
            target = webhook.client_config.service
            service = snapshot.service(target.namespace, target.name) if target else None
            if target is None or service is None:
                continue
            load = next((one for one in snapshot.load(service.host) if one.port == target.port), None)
            for endpoint in load.endpoints if load else ():
                server = snapshot.workload_by_address(endpoint.address)
                if server is None or endpoint.port in _excluded(pods.get((server.namespace, server.name))):
                    continue
                verdict = connection.to_workload(snapshot, server, endpoint.port, connection.Protection.TLS)
                if not verdict.succeeds:
                    place = f"{server.namespace}/{server.name}"
                    text = f"the API server cannot call {webhook.name} at {place}: {verdict.reason}"
                    hint = f"let port {endpoint.port} be PERMISSIVE by portLevelMtls; the webhook has TLS of its own"
                    field, related = f"webhooks[{index}].clientConfig.service", _related(verdict.server_policy)
                    yield own("MUT0014", subject(kind, item), text, hint, field=field, related=related)
                    break


def scrapers(inputs: Inputs) -> Iterator[Message]:
    """Pods that ask to be scraped on a port that takes mutual TLS only, by a scraper that has no certificate."""
    snapshot = inputs.snapshot
    known = [workload for workload in snapshot.workloads.values() if _is_scraper(workload)]
    bare = sorted({f"{workload.namespace}/{workload.name}" for workload in known if not workload.has_sidecar})
    if known and not bare:
        return
    found: dict[tuple[str, int, ObjectRef | None], list[Workload]] = {}
    for key, pod in snapshot.objects.typed(kinds.POD, core.Pod).items():
        annotations = pod.metadata.annotations
        port = annotations.get("prometheus.io/port", "")
        server = snapshot.workloads.get(key)
        if annotations.get("prometheus.io/scrape") != "true" or not port.isdecimal() or server is None:
            continue
        if not server.has_sidecar or int(port) in _excluded(pod):
            continue
        effective = snapshot.mode_of(server)
        if effective.on_port(int(port)) is MtlsMode.STRICT:
            policy = effective.decider(int(port))
            found.setdefault((server.namespace, int(port), policy), []).append(server)
    for (namespace, number, policy), servers in found.items():
        who = f"{words.listed(bare)} has no sidecar" if bare else "a scraper without a sidecar is shut out"
        by = f" by {policy.kind} {policy.namespace}/{policy.name}" if policy else ""
        names = words.listed([server.name for server in servers], 3)
        text = f"asks to be scraped on port {number}, which is STRICT{by}: {who} ({names})"
        hint = f"let port {number} be PERMISSIVE by portLevelMtls"
        first = min(servers, key=lambda server: server.name)
        about = Subject(kinds.POD.name, namespace, first.name)
        severity = Severity.WARNING if bare else Severity.INFO
        yield own("MUT0015", about, text, hint, severity=severity, related=_related(policy))


def injectors(inputs: Inputs) -> Iterator[Message]:
    """Injection webhooks that call a Service that is not there, or that two of inject the same pod."""
    services = inputs.all(kinds.SERVICE, core.Service)
    items = [item for item in inputs.all(_MUTATING, MutatingWebhookConfiguration).values() if is_injector(item)]
    names = {(item.metadata.name, webhook["name"]) for item in items for webhook in as_mapping(item)["webhooks"]}
    for item in items:
        about = subject(_MUTATING, item)
        missing = {
            f"{target.name}.{target.namespace}"
            for webhook in item.webhooks
            if (target := webhook.client_config.service) is not None and (target.namespace, target.name) not in services
        }
        for service in sorted(missing):
            yield istio("IST0139", about, f"Injector refers to a control plane service that does not exist: {service}.")
        for webhook in item.webhooks:
            others = sorted(_overlapping(item, webhook.name, items) & names)
            if others:
                shown = [f"{configuration}/{name}" for configuration, name in others]
                text = f"Webhook {webhook.name} overlaps with others: {shown}. This may cause injection to occur twice."
                yield istio("IST0139", about, text)


def _overlapping(
    item: MutatingWebhookConfiguration, name: str, items: list[MutatingWebhookConfiguration]
) -> set[tuple[str, str]]:
    """Webhooks that are called for the same pod, for some namespace and pod labels that people use."""
    found: set[tuple[str, str]] = set()
    mappings = [as_mapping(one) for one in items]
    for namespace_labels in _namespace_labels(mappings):
        for pod_labels in _pod_labels(mappings):
            called = {
                (str(mapping["name"]), webhook)
                for mapping in mappings
                for webhook in selectors.calling(mapping, namespace_labels, pod_labels)
            }
            if (item.metadata.name, name) in called:
                found |= called - {(item.metadata.name, name)}
    return found


def _revisions(mappings: list[dict[str, Any]]) -> set[str]:
    return {str(mapping["labels"].get(_REVISION, "")) for mapping in mappings} - {""}


def _namespace_labels(mappings: list[dict[str, Any]]) -> list[dict[str, str]]:
    by_revision = [{_REVISION: revision} for revision in sorted(_revisions(mappings))]
    return [{}, {_INJECTION: "enabled"}, {_INJECTION: "disabled"}, *by_revision]


def _pod_labels(mappings: list[dict[str, Any]]) -> list[dict[str, str]]:
    by_revision = [{_REVISION: revision} for revision in sorted(_revisions(mappings))]
    return [{}, {_POD_INJECT: "true"}, {_POD_INJECT: "false"}, *by_revision]


def _configurations(
    inputs: Inputs,
) -> Iterator[tuple[Kind, MutatingWebhookConfiguration | ValidatingWebhookConfiguration]]:
    yield from ((_MUTATING, item) for item in inputs.all(_MUTATING, MutatingWebhookConfiguration).values())
    yield from ((_VALIDATING, item) for item in inputs.all(_VALIDATING, ValidatingWebhookConfiguration).values())


def _excluded(pod: core.Pod | None) -> set[int]:
    """Inbound ports that pass the sidecar by, or that it answers itself."""
    text = pod.metadata.annotations.get(_EXCLUDED_PORTS, "") if pod else ""
    return {int(part) for part in text.split(",") if part.strip().isdecimal()}.union(UNCAPTURED_INBOUND_PORTS)


def _is_scraper(workload: Workload) -> bool:
    labels = dict(workload.labels)
    return _SCRAPER in (labels.get("app"), labels.get("app.kubernetes.io/name"))


def _related(policy: ObjectRef | None) -> tuple[Subject, ...]:
    return (Subject(policy.kind, policy.namespace, policy.name),) if policy else ()


CHECKS: Final = (
    Check(
        "webhook.StrictAnalyzer",
        "Admission webhooks that the API server cannot reach through STRICT",
        ("MUT0014",),
        (*SNAPSHOT_INPUTS, _VALIDATING),
        webhooks,
        (kinds.PEER_AUTHENTICATION,),
    ),
    Check(
        "metrics.StrictAnalyzer",
        "Metrics that a scraper cannot fetch through STRICT",
        ("MUT0015",),
        SNAPSHOT_INPUTS,
        scrapers,
        (kinds.PEER_AUTHENTICATION,),
    ),
    Check(
        "webhook.Analyzer",
        "Injection webhooks without a control plane, and such as inject a pod twice",
        ("IST0139",),
        (_MUTATING, kinds.SERVICE),
        injectors,
    ),
)
