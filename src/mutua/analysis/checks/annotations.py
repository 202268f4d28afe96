"""Annotations that nobody knows, that stand on the wrong object, or whose value cannot be followed."""

from collections.abc import Iterator
from typing import Final

from mutua.analysis import words
from mutua.analysis.check import Check
from mutua.analysis.checks.destination_rule import workload_templates
from mutua.analysis.inputs import SYSTEM_NAMESPACES, Inputs
from mutua.analysis.message import Message, Subject, istio, subject
from mutua.analysis.projection import WORKLOAD_KINDS
from mutua.api import core, kinds
from mutua.api.kinds import AnyObject, Kind
from mutua.injection import settings as injection_settings
from mutua.injection.settings import InjectionError

_POD: Final = ("Pod",)
_SERVICE: Final = ("Service",)
_ANY: Final[tuple[str, ...]] = ()

# Istio's annotations and the kinds that they are for; () is any kind. Source: Istio's resource annotations.
_KNOWN: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        (
            "inject.istio.io/templates",
            "istio.io/rev",
            "istio.io/reroute-virtual-interfaces",
            "prometheus.istio.io/merge-metrics",
            "proxy.istio.io/config",
            "proxy.istio.io/overrides",
            *(f"readiness.status.sidecar.istio.io/{name}" for name in ("applicationPorts", "failureThreshold")),
            *(f"readiness.status.sidecar.istio.io/{name}" for name in ("initialDelaySeconds", "periodSeconds")),
            *(
                f"sidecar.istio.io/{name}"
                for name in (
                    "agentLogLevel",
                    "bootstrapOverride",
                    "componentLogLevel",
                    "controlPlaneAuthPolicy",
                    "discoveryAddress",
                    "enableCoreDump",
                    "extraStatTags",
                    "inject",
                    "interceptionMode",
                    "logLevel",
                    "nativeSidecar",
                    "proxyCPU",
                    "proxyCPULimit",
                    "proxyImage",
                    "proxyImageType",
                    "proxyMemory",
                    "proxyMemoryLimit",
                    "rewriteAppHTTPProbers",
                    "statsCompression",
                    "statsHistogramBuckets",
                    "statsInclusionPrefixes",
                    "statsInclusionRegexps",
                    "statsInclusionSuffixes",
                    "status",
                    "userVolume",
                    "userVolumeMount",
                )
            ),
            "status.sidecar.istio.io/port",
            *(
                f"traffic.sidecar.istio.io/{name}"
                for name in (
                    "excludeInboundPorts",
                    "excludeInterfaces",
                    "excludeOutboundIPRanges",
                    "excludeOutboundPorts",
                    "includeInboundPorts",
                    "includeOutboundIPRanges",
                    "includeOutboundPorts",
                    "kubevirtInterfaces",
                )
            ),
            "ambient.istio.io/redirection",
            "ambient.istio.io/dns-capture",
            "ambient.istio.io/bypass-inbound-capture",
        ),
        _POD,
    ),
    "alpha.istio.io/canonical-serviceaccounts": _SERVICE,
    "alpha.istio.io/kubernetes-serviceaccounts": _SERVICE,
    "alpha.istio.io/identity": _POD,
    "networking.istio.io/exportTo": _SERVICE,
    "networking.istio.io/traffic-distribution": (*_SERVICE, "Namespace"),
    "networking.istio.io/service-type": ("Gateway",),
    "networking.istio.io/address-type": ("Gateway",),
    "traffic.istio.io/nodeSelector": _SERVICE,
    "kubernetes.io/ingress.class": ("Ingress",),
    "galley.istio.io/analyze-suppress": _ANY,
    "istio.io/dry-run": ("AuthorizationPolicy", "PeerAuthentication"),
    "install.operator.istio.io/chart-owner": _ANY,
    "topology.istio.io/controlPlaneClusters": ("Namespace",),
    "gateway.istio.io/controller-version": _ANY,
    "internal.istio.io/": _ANY,
}
_TEMPLATES: Final = tuple(kind for kind, _ in WORKLOAD_KINDS)


def annotations(inputs: Inputs) -> Iterator[Message]:
    """Unknown and misplaced annotations, object by object."""
    for kind, item in _annotated(inputs):
        if item.metadata.namespace in (*SYSTEM_NAMESPACES, inputs.istio_namespace):
            continue
        about = subject(kind, item)
        for name in item.metadata.annotations:
            if not _is_istios(name) and name not in _KNOWN:
                continue
            belongs = next((where for known, where in _KNOWN.items() if _means(known, name)), None)
            field = f"metadata.annotations[{name}]"
            if belongs is None:
                near = words.nearest(name, _KNOWN)
                yield istio("IST0108", about, name, field=field, hint=f"did you mean {near}?" if near else "")
            elif belongs and kind.name not in belongs:
                hint = "write it into spec.template.metadata" if kind in _TEMPLATES and belongs == _POD else ""
                yield istio("IST0107", about, name, words.joined(belongs), field=field, hint=hint)


def values(inputs: Inputs) -> Iterator[Message]:
    """Values that the injector would refuse; of templates, before their pods are made."""
    owned = {key: kind.name for kind, struct in WORKLOAD_KINDS for key in inputs.all(kind, struct)}
    pods = [(kinds.POD.name, pod) for pod in inputs.subjects(kinds.POD, core.Pod)]
    templates = [(owned[(pod.metadata.namespace, pod.metadata.name)], pod) for pod in workload_templates(inputs)]
    for kind_name, pod in (*pods, *templates):
        try:
            injection_settings.for_pod(pod.metadata.annotations, inputs.injector)
        except InjectionError as problem:
            name = next((one for one in pod.metadata.annotations if one in problem.message), "of the sidecar")
            about = Subject(kind_name, pod.metadata.namespace, pod.metadata.name)
            yield istio("IST0125", about, name, problem.message, field=f"metadata.annotations[{name}]")


def _annotated(inputs: Inputs) -> Iterator[tuple[Kind, AnyObject]]:
    for kind, struct in ((kinds.POD, core.Pod), (kinds.SERVICE, core.Service), (kinds.NAMESPACE, core.Namespace)):
        yield from ((kind, item) for item in inputs.subjects(kind, struct) if item.metadata.annotations)
    for kind, made in WORKLOAD_KINDS:
        yield from ((kind, item) for item in inputs.subjects(kind, made) if item.metadata.annotations)


def _is_istios(name: str) -> bool:
    domain = name.partition("/")[0]
    return domain == "istio.io" or domain.endswith(".istio.io")


def _means(known: str, name: str) -> bool:
    return name == known or (known.endswith("/") and name.startswith(known))


CHECKS: Final = (
    Check(
        "annotations.K8sAnalyzer",
        "Annotations that are unknown or stand on the wrong kind of object",
        ("IST0107", "IST0108"),
        (kinds.POD, kinds.SERVICE, kinds.NAMESPACE, *_TEMPLATES),
        annotations,
    ),
    Check(
        "annotations.K8sAnalyzer.Values",
        "Annotations whose value the injector would refuse",
        ("IST0125",),
        (kinds.POD, *_TEMPLATES),
        values,
    ),
)
