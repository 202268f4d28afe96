"""Callers that can have no certificate of the mesh, and whom STRICT shuts out: API server, scrapers, kubelet."""

from collections.abc import Iterable, Iterator
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
from mutua.mesh.proxy_view import ObjectRef
from mutua.verdict import uncertified
from mutua.verdict.uncertified import CutOff, Probe

_MUTATING: Final = kinds.MUTATING_WEBHOOK_CONFIGURATION
_VALIDATING: Final = kinds.VALIDATING_WEBHOOK_CONFIGURATION
_INJECTION: Final = "istio-injection"
_REVISION: Final = "istio.io/rev"
_POD_INJECT: Final = "sidecar.istio.io/inject"


def webhooks(inputs: Inputs) -> Iterator[Message]:
    """Webhooks whose Service leads to a port that takes mutual TLS only."""
    for kind, item in _configurations(inputs):
        for index, webhook in enumerate(item.webhooks):
            cut = uncertified.webhook(inputs.snapshot, webhook)
            if cut:
                place = f"{cut.server.namespace}/{cut.server.name}"
                text = f"the API server cannot call {webhook.name} at {place}: {cut.reason}"
                hint = f"let port {cut.port} be PERMISSIVE by portLevelMtls; the webhook has TLS of its own"
                field, related = f"webhooks[{index}].clientConfig.service", _related(cut.policy)
                yield own("MUT0014", subject(kind, item), text, hint, field=field, related=related)


def scrapers(inputs: Inputs) -> Iterator[Message]:
    """Pods that ask to be scraped on a port that takes mutual TLS only, by a scraper that has no certificate."""
    known = uncertified.scrapers(inputs.snapshot)
    if known == ():
        return
    bare = [f"{workload.namespace}/{workload.name}" for workload in known or ()]
    for (namespace, number, policy), servers in _grouped(uncertified.scrapes(inputs.snapshot)).items():
        who = f"{words.listed(bare)} has no sidecar" if bare else "a scraper without a sidecar is shut out"
        by = f" by {policy.kind} {policy.namespace}/{policy.name}" if policy else ""
        text = f"asks to be scraped on port {number}, which is STRICT{by}: {who} ({words.listed(servers, 3)})"
        hint = f"let port {number} be PERMISSIVE by portLevelMtls"
        about = Subject(kinds.POD.name, namespace, min(servers))
        severity = Severity.WARNING if bare else Severity.INFO
        yield own("MUT0015", about, text, hint, severity=severity, related=_related(policy))


def probes(inputs: Inputs) -> Iterator[Message]:
    """Probes of the kubelet to a port that takes mutual TLS only."""
    found: dict[Probe, list[CutOff]] = {}
    for cut, probe in uncertified.probes(inputs.snapshot):
        found.setdefault(probe, []).append(cut)
    for probe, cuts in found.items():
        for (namespace, number, policy), servers in _grouped(cuts).items():
            by = f" by {policy.kind} {policy.namespace}/{policy.name}" if policy else ""
            text = f"the kubelet's {probe} asks port {number}, which is STRICT{by} ({words.listed(servers, 3)})"
            hint = 'let the sidecar ask for it: no annotation sidecar.istio.io/rewriteAppHTTPProbers: "false"; restart'
            about = Subject(kinds.POD.name, namespace, min(servers))
            yield own("MUT0018", about, text, hint, related=_related(policy))


def _grouped(cuts: Iterable[CutOff]) -> dict[tuple[str, int, ObjectRef | None], list[str]]:
    """Names of the pods by namespace, port and who decided the mode."""
    found: dict[tuple[str, int, ObjectRef | None], list[str]] = {}
    for cut in cuts:
        found.setdefault((cut.server.namespace, cut.port, cut.policy), []).append(cut.server.name)
    return found


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
        "probe.StrictAnalyzer",
        "Probes that the kubelet cannot make through STRICT",
        ("MUT0018",),
        SNAPSHOT_INPUTS,
        probes,
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
