"""Every code that a message can carry: Istio's, with Istio's names and levels, and our own, which begin with MUT."""

from typing import Final

import msgspec

from mutua.api.findings import Severity

_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO


class Code(msgspec.Struct, frozen=True):
    """One kind of message. `template` is a format with positional fields; own codes have none, their checks word it."""

    code: str
    name: str
    severity: Severity
    template: str = ""

    def text(self, *arguments: object) -> str:
        """The message with its arguments. Lists are shown as `[a b]`, as people know them from Istio."""
        return self.template.format(*(_shown(argument) for argument in arguments))


def _shown(argument: object) -> str:
    if isinstance(argument, (list, tuple)):
        return f"[{' '.join(str(item) for item in argument)}]"
    return str(argument)


# Codes, names and levels are Istio's (its analysis messages); what its users look for in logs stays findable.
_ISTIO: Final = (
    Code("IST0002", "Deprecated", _W, "Deprecated: {}"),
    Code("IST0101", "ReferencedResourceNotFound", _E, 'Referenced {} not found: "{}"'),
    Code(
        "IST0102",
        "NamespaceNotInjected",
        _I,
        "The namespace is not enabled for Istio injection: 'kubectl label namespace {0} istio-injection=enabled' turns"
        " it on, 'kubectl label namespace {0} istio-injection=disabled' says that this is meant",
    ),
    Code("IST0103", "PodMissingProxy", _W, "The pod {} is missing the Istio proxy: {}"),
    Code("IST0106", "SchemaValidationError", _E, "Schema validation error: {}"),
    Code("IST0107", "MisplacedAnnotation", _W, "Misplaced annotation: {} can only be applied to {}"),
    Code("IST0108", "UnknownAnnotation", _W, "Unknown annotation: {}"),
    Code(
        "IST0109",
        "ConflictingMeshGatewayVirtualServiceHosts",
        _E,
        "The VirtualServices {} associated with mesh gateway define the same host {}: which one counts is undefined;"
        " merge them into one",
    ),
    Code(
        "IST0110",
        "ConflictingSidecarWorkloadSelectors",
        _E,
        'The Sidecars {} in namespace "{}" select the same workload pod "{}": which one counts is undefined',
    ),
    Code(
        "IST0111",
        "MultipleSidecarsWithoutWorkloadSelectors",
        _E,
        'The Sidecars {} in namespace "{}" have no workload selector: which one counts is undefined',
    ),
    Code(
        "IST0112",
        "VirtualServiceDestinationPortSelectorRequired",
        _E,
        'This VirtualService routes to a service "{}" that exposes multiple ports {}: the destination must name one',
    ),
    Code(
        "IST0116",
        "DeploymentAssociatedToMultipleServices",
        _W,
        "This deployment {} is associated with multiple services using port {} but different protocols: {}",
    ),
    Code(
        "IST0118",
        "PortNameIsNotUnderNamingConvention",
        _I,
        "Port name {} (port: {}, targetPort: {}) doesn't follow the naming convention of Istio port: the protocol is"
        " detected from the bytes",
    ),
    Code(
        "IST0123",
        "NamespaceMultipleInjectionLabels",
        _W,
        "The namespace has more than one type of injection labels {}: keep one of them",
    ),
    Code("IST0125", "InvalidAnnotation", _W, "Invalid annotation {}: {}"),
    Code(
        "IST0127",
        "NoMatchingWorkloadsFound",
        _W,
        "No matching workloads for this resource with the following labels: {}",
    ),
    Code(
        "IST0128",
        "NoServerCertificateVerificationDestinationLevel",
        _W,
        "DestinationRule {} in namespace {} has TLS mode set to {} but no caCertificates are set to validate server"
        " identity for host: {}",
    ),
    Code(
        "IST0129",
        "NoServerCertificateVerificationPortLevel",
        _W,
        "DestinationRule {} in namespace {} has TLS mode set to {} but no caCertificates are set to validate server"
        " identity for host: {} at port {}",
    ),
    Code(
        "IST0132",
        "VirtualServiceHostNotFoundInGateway",
        _W,
        "one or more host {} defined in VirtualService {} not found in Gateway {}",
    ),
    Code("IST0133", "SchemaWarning", _W, "Schema validation warning: {}"),
    Code("IST0134", "ServiceEntryAddressesRequired", _W, "ServiceEntry addresses are required for this protocol"),
    Code(
        "IST0137",
        "DeploymentConflictingPorts",
        _W,
        'This deployment {} is associated with multiple services {} using targetPort "{}" but different ports: {}',
    ),
    Code("IST0139", "InvalidWebhook", _E, "{}"),
    Code(
        "IST0140",
        "IngressRouteRulesNotAffected",
        _W,
        "Subset in virtual service {} has no effect on ingress gateway {} requests",
    ),
    Code("IST0144", "InvalidApplicationUID", _W, "User ID (UID) 1337 is reserved for the sidecar proxy"),
    Code("IST0145", "ConflictingGateways", _E, "Conflict with gateways {} (workload selector {}, port {}, hosts {})"),
    Code(
        "IST0146",
        "ImageAutoWithoutInjectionWarning",
        _W,
        "{} {} contains `image: auto` but does not match any Istio injection webhook selectors",
    ),
    Code(
        "IST0147",
        "ImageAutoWithoutInjectionError",
        _E,
        "{} {} contains `image: auto` but does not match any Istio injection webhook selectors",
    ),
    Code(
        "IST0148",
        "NamespaceInjectionEnabledByDefault",
        _I,
        "is enabled for Istio injection, as Istio is installed with enableNamespacesByDefault as true",
    ),
    Code(
        "IST0149",
        "JwtClaimBasedRoutingWithoutRequestAuthN",
        _E,
        "The virtual service uses the JWT claim based routing (key: {}) but found no request authentication for the"
        " gateway ({}) pod ({}): apply one first, so that the claims are verified",
    ),
    Code(
        "IST0150",
        "ExternalNameServiceTypeInvalidPortName",
        _W,
        "Port name for ExternalName service is invalid: a port that is TCP by name or default keeps other TCP traffic"
        " of its number from being forwarded",
    ),
    Code(
        "IST0151",
        "EnvoyFilterUsesRelativeOperation",
        _W,
        "This EnvoyFilter does not have a priority and has a relative patch operation set: it may find nothing to apply"
        " to; use INSERT_FIRST or ADD, or set the priority",
    ),
    Code(
        "IST0152",
        "EnvoyFilterUsesReplaceOperationIncorrectly",
        _E,
        "The REPLACE operation is only valid for HTTP_FILTER and NETWORK_FILTER",
    ),
    Code(
        "IST0153",
        "EnvoyFilterUsesAddOperationIncorrectly",
        _E,
        "The ADD operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE",
    ),
    Code(
        "IST0154",
        "EnvoyFilterUsesRemoveOperationIncorrectly",
        _E,
        "The REMOVE operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE",
    ),
    Code(
        "IST0155",
        "EnvoyFilterUsesRelativeOperationWithProxyVersion",
        _W,
        "This EnvoyFilter does not have a priority and has a relative patch operation and proxyVersion set: an upgrade"
        " may leave it without effect; use INSERT_FIRST or ADD, or set the priority",
    ),
    Code(
        "IST0158",
        "PodsIstioProxyImageMismatchInNamespace",
        _W,
        "The Istio proxy images of the pods running in the namespace do not match the image defined in the injection"
        " configuration (pod names: {}): redeploy them",
    ),
    Code(
        "IST0162",
        "GatewayPortNotDefinedOnService",
        _W,
        "The gateway is listening on a target port (port {}) that is not defined in the Service associated with its"
        " workload instances (Pod selector {})",
    ),
    Code(
        "IST0165",
        "ReferencedInternalGateway",
        _W,
        "Gateway reference in VirtualService {} is to an implementation-generated internal Gateway: {}",
    ),
    Code("IST0167", "IneffectivePolicy", _W, "The policy has no impact: {}"),
    Code(
        "IST0173",
        "DestinationRuleSubsetNotSelectPods",
        _E,
        "The Subset {} defined in the DestinationRule does not select any pods: requests to it may get 503 UH"
        " (NoHealthyUpstream)",
    ),
    Code(
        "IST0174",
        "UnknownDestinationRuleHost",
        _W,
        "The host {} defined in the DestinationRule does not match any services in the mesh",
    ),
    Code(
        "IST0177",
        "ConflictingServiceEntryProtocol",
        _W,
        'Multiple ServiceEntries ({}) define the same host "{}" and port {} with conflicting protocols ({})',
    ),
)

_OWN: Final = (
    Code("MUT0001", "PeerAuthenticationShadowed", _W),
    Code("MUT0002", "SelectorInRootNamespace", _W),
    Code("MUT0003", "SelectorMatchesNothing", _W),
    Code("MUT0004", "PortKeyIsServicePort", _W),
    Code("MUT0005", "DestinationRuleBreaksConnections", _E),
    Code("MUT0006", "IdentityMatchesNoPod", _W),
    Code("MUT0007", "IdentityOnPlaintextPort", _W),
    Code("MUT0008", "HttpFieldsOnTcpPort", _W),
    Code("MUT0009", "AllowDeniesEverything", _W),
    Code("MUT0010", "ListItemsMeantAsOne", _W),
    Code("MUT0011", "MutualTlsToHostsWithoutSidecar", _E),
    Code("MUT0012", "PodRefusesInjection", _I),
    Code("MUT0013", "ServerFirstOnDetectedPort", _W),
    Code("MUT0014", "StrictCutsOffWebhook", _E),
    Code("MUT0015", "StrictCutsOffScraper", _W),
    Code("MUT0016", "CertificateExpires", _W),
    Code("MUT0017", "PeerAuthenticationDryRun", _I),
    Code("MUT0018", "StrictCutsOffProbe", _E),
    Code("MUT0019", "CredentialNotGiven", _E),
    Code("MUT0020", "HostOfSomebodyElse", _W),
    Code("MUT0021", "TlsInsideTls", _W),
    Code("MUT0022", "PlaintextToTlsPort", _W),
    Code("MUT0023", "ServerNotVerified", _W),
)

ISTIO: Final = {entry.code: entry for entry in _ISTIO}
OWN: Final = {entry.code: entry for entry in _OWN}
ALL: Final = {**ISTIO, **OWN}
