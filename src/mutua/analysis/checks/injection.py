"""Namespaces and pods that are not injected as somebody may think."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from mutua.analysis.check import Check
from mutua.analysis.checks.destination_rule import workload_templates
from mutua.analysis.inputs import SYSTEM_NAMESPACES, Inputs
from mutua.analysis.message import Message, Subject, istio, own, subject
from mutua.analysis.projection import WORKLOAD_KINDS, as_mapping, default_configuration, is_injector, would_inject
from mutua.api import admission, core, kinds
from mutua.errors import InvalidInputError
from mutua.injection import selectors
from mutua.injection import settings as injection_settings
from mutua.injection.configuration import injector_settings
from mutua.injection.settings import InjectorSettings

INJECTION: Final = "istio-injection"
REVISION: Final = "istio.io/rev"
SIDECAR_USER: Final = 1337
_WEBHOOKS: Final = kinds.MUTATING_WEBHOOK_CONFIGURATION
_ENDED: Final = frozenset({"Succeeded", "Failed"})
_OF_THE_MESH: Final = frozenset({core.SIDECAR_CONTAINER, "istio-init", "istio-validation"})
_CONFIGURATION_LABEL: Final = ("istio", "sidecar-injector")
_TEMPLATES: Final = tuple(kind for kind, _ in WORKLOAD_KINDS)


def namespaces(inputs: Inputs) -> Iterator[Message]:
    """Namespaces that say nothing about injection, or say it twice."""
    configurations = _configurations(inputs)
    for item in inputs.subjects(kinds.NAMESPACE, core.Namespace):
        name, labels = item.metadata.name, item.metadata.labels
        if name in SYSTEM_NAMESPACES or name == inputs.istio_namespace:
            continue
        about = subject(kinds.NAMESPACE, item)
        said = [f"{key}={labels[key]}" for key in (INJECTION, REVISION) if key in labels]
        if len(said) > 1:
            yield istio("IST0123", about, said, field="metadata.labels")
        elif not said and any(selectors.explain(one, labels, {}).injected for one in configurations):
            yield istio("IST0148", about)
        elif not said:
            yield istio("IST0102", about, name, field="metadata.labels")


def pods(inputs: Inputs) -> Iterator[Message]:
    """Pods without a sidecar in namespaces that are labelled for it, and why."""
    configurations = _configurations(inputs)
    labelled = {
        name: item.metadata.labels
        for (_, name), item in inputs.all(kinds.NAMESPACE, core.Namespace).items()
        if name not in SYSTEM_NAMESPACES
        and name != inputs.istio_namespace
        and any(selectors.explain(one, item.metadata.labels, {}).injected for one in configurations)
    }
    for pod in inputs.subjects(kinds.POD, core.Pod):
        labels = labelled.get(pod.metadata.namespace)
        if labels is None or pod.status.phase in _ENDED or _has_sidecar(pod):
            continue
        about = subject(kinds.POD, pod)
        wanted, reason = would_inject(pod, labels, configurations, inputs.injector)
        if wanted:
            why = "it is older than the label, or was made while injection failed"
            hint = f"make it anew: kubectl rollout restart, or kubectl delete pod {about.name} -n {about.namespace}"
            yield istio("IST0103", about, f"{about.namespace}/{about.name}", why, hint=hint)
        else:
            yield own("MUT0012", about, f"has no sidecar: {reason}", "STRICT workloads refuse it")


def images(inputs: Inputs) -> Iterator[Message]:
    """Sidecars of another image than pods would get now."""
    settings = _settings_by_revision(inputs)
    wrong: dict[str, list[str]] = {}
    for pod in inputs.subjects(kinds.POD, core.Pod):
        namespace = inputs.all(kinds.NAMESPACE, core.Namespace).get(("", pod.metadata.namespace))
        labels = namespace.metadata.labels if namespace else {}
        revision = labels.get(REVISION, "default" if labels.get(INJECTION) == "enabled" else "")
        injector = settings.get(revision)
        image = next((one.image for one in _containers(pod) if one.name == core.SIDECAR_CONTAINER), "")
        if injector is None or not image:
            continue
        try:
            wanted = injection_settings.for_pod(pod.metadata.annotations, injector).image
        except InvalidInputError:
            continue  # such a pod could not be made again, which the injector says
        if _without_type(image) != _without_type(wanted):
            wrong.setdefault(pod.metadata.namespace, []).append(pod.metadata.name)
    for name, names in wrong.items():
        yield istio("IST0158", Subject(kinds.NAMESPACE.name, "", name), sorted(names))


def automatic_images(inputs: Inputs) -> Iterator[Message]:
    """`image: auto` where nothing replaces it."""
    configurations = _configurations(inputs)
    known = inputs.all(kinds.NAMESPACE, core.Namespace)
    for code, kind_name, pod in _pods_and_templates(inputs):
        if not any(one.name == core.SIDECAR_CONTAINER and one.image == "auto" for one in _containers(pod)):
            continue
        namespace = known.get(("", pod.metadata.namespace))
        labels = namespace.metadata.labels if namespace else {}
        if not any(selectors.explain(one, labels, pod.metadata.labels).injected for one in configurations):
            about = Subject(kind_name, pod.metadata.namespace, pod.metadata.name)
            yield istio(code, about, kind_name, pod.metadata.name)


def users(inputs: Inputs) -> Iterator[Message]:
    """Applications that run as the sidecar's user: their connections escape the sidecar."""
    for _, kind_name, pod in _pods_and_templates(inputs):
        if pod.metadata.namespace == inputs.istio_namespace:
            continue  # the control plane's own pods have no sidecar
        contexts = [one.security_context for one in _containers(pod) if one.name not in _OF_THE_MESH]
        if any(one is not None and one.run_as_user == SIDECAR_USER for one in (*contexts, pod.spec.security_context)):
            yield istio("IST0144", Subject(kind_name, pod.metadata.namespace, pod.metadata.name))


def _pods_and_templates(inputs: Inputs) -> Iterator[tuple[str, str, core.Pod]]:
    """Each with its kind, and the code for `image: auto` in it: a pod fails now, a template later."""
    for pod in inputs.subjects(kinds.POD, core.Pod):
        yield "IST0147", kinds.POD.name, pod
    owned = {(kind.name, key) for kind, struct in WORKLOAD_KINDS for key in inputs.all(kind, struct)}
    for pod in workload_templates(inputs):
        key = (pod.metadata.namespace, pod.metadata.name)
        kind_name = next(kind.name for kind in _TEMPLATES if (kind.name, key) in owned)
        yield "IST0146", kind_name, pod


def _configurations(inputs: Inputs) -> tuple[dict[str, Any], ...]:
    """The injection webhooks; those of a default installation where none is known."""
    found = inputs.all(_WEBHOOKS, admission.MutatingWebhookConfiguration).values()
    return tuple(as_mapping(item) for item in found if is_injector(item)) or (default_configuration(),)


def _settings_by_revision(inputs: Inputs) -> Mapping[str, InjectorSettings]:
    """The injector's settings of each revision, from its config map."""
    found: dict[str, InjectorSettings] = {}
    key, value = _CONFIGURATION_LABEL
    for item in inputs.all(kinds.CONFIG_MAP, core.ConfigMap).values():
        name = item.metadata.name.removeprefix("istio-sidecar-injector")
        if name == item.metadata.name and item.metadata.labels.get(key) != value:
            continue
        revision = name.removeprefix("-") or "default"
        try:
            values = msgspec.json.decode(item.data.get("values") or "{}", type=dict[str, Any])
            found[revision] = injector_settings(
                values, inputs.mesh_config, namespace=inputs.istio_namespace, revision=revision
            )
        except (msgspec.MsgspecError, InvalidInputError):
            continue  # the injector goes on with what it had
    return found


def _without_type(image: str) -> str:
    """An image without the end of its tag that says how it was built: a namespace's ProxyConfig may choose that."""
    return image.removesuffix("-distroless").removesuffix("-debug")


def _has_sidecar(pod: core.Pod) -> bool:
    return any(one.name == core.SIDECAR_CONTAINER for one in _containers(pod))


def _containers(pod: core.Pod) -> Iterable[core.Container]:
    return (*pod.spec.containers, *pod.spec.init_containers)


CHECKS: Final = (
    Check(
        "injection.Analyzer.Namespaces",
        "Namespaces without a label for injection, or with two",
        ("IST0102", "IST0123", "IST0148"),
        (kinds.NAMESPACE, _WEBHOOKS),
        namespaces,
    ),
    Check(
        "injection.Analyzer.Pods",
        "Pods without a sidecar in namespaces that are labelled for injection",
        ("IST0103", "MUT0012"),
        (kinds.NAMESPACE, kinds.POD, _WEBHOOKS),
        pods,
    ),
    Check(
        "injection.ImageAnalyzer",
        "Sidecars whose image is not the one that pods would get now",
        ("IST0158",),
        (kinds.NAMESPACE, kinds.POD, kinds.CONFIG_MAP),
        images,
    ),
    Check(
        "injection.ImageAutoAnalyzer",
        "`image: auto` that no webhook replaces",
        ("IST0146", "IST0147"),
        (kinds.NAMESPACE, kinds.POD, *_TEMPLATES, _WEBHOOKS),
        automatic_images,
    ),
    Check(
        "applicationUID.Analyzer",
        "Applications that run as the sidecar's user",
        ("IST0144",),
        (kinds.POD, *_TEMPLATES),
        users,
    ),
)
