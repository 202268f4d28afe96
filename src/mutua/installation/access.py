"""Who the control plane is to the API server, and the least it must be allowed to do."""

from mutua.api import kinds
from mutua.installation.labels import CONTROL_PLANE, Object, labelled
from mutua.installation.values import Installation

READ = ["get", "list", "watch"]
ROOT_CONFIG_MAP = "istio-ca-root-cert"
CRL_CONFIG_MAP = "istio-ca-crl"
# Who may create tokens for this account, which may do nothing else, may look at the control plane's state.
DEBUG_ACCOUNT = "mutua-debug"
DEBUG_AUDIENCE = "mutua-debug"
KUBERNETES_API = "ISTIOD_RA_KUBERNETES_API"
"""Value of EXTERNAL_CA. Source: Istio."""

_CREDENTIALS: list[Object] = [{"apiGroups": [""], "resources": ["secrets"], "verbs": READ}]


def objects(installation: Installation) -> list[Object]:
    """Service account, cluster-wide role, role in the control plane's namespace, and their bindings.

    No secret is readable outside the control plane's own namespace, unless a namespace binds the role that is there for
    it, and nothing that selects pods is writable.
    """
    namespace = installation.namespace
    name = f"istiod-{namespace}"
    cluster_name = f"istiod-clusterrole-{namespace}"
    account = {"kind": "ServiceAccount", "name": CONTROL_PLANE, "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    return [
        labelled(installation, "v1", "ServiceAccount", CONTROL_PLANE, namespace=namespace, **_pulling(installation)),
        labelled(installation, "v1", "ServiceAccount", DEBUG_ACCOUNT, namespace=namespace),
        labelled(installation, f"{rbac}/v1", "ClusterRole", cluster_name, rules=_cluster_rules(installation)),
        labelled(
            installation,
            f"{rbac}/v1",
            "ClusterRoleBinding",
            cluster_name,
            roleRef={"apiGroup": rbac, "kind": "ClusterRole", "name": cluster_name},
            subjects=[account],
        ),
        labelled(installation, f"{rbac}/v1", "ClusterRole", credentials_role(namespace), rules=_CREDENTIALS),
        labelled(installation, f"{rbac}/v1", "Role", name, namespace=namespace, rules=_own_rules()),
        labelled(
            installation,
            f"{rbac}/v1",
            "RoleBinding",
            name,
            namespace=namespace,
            roleRef={"apiGroup": rbac, "kind": "Role", "name": name},
            subjects=[account],
        ),
    ]


def _pulling(installation: Installation) -> Object:
    """With what the control plane's image is pulled. Pods of the mesh have it from the injector."""
    secrets = [{"name": name} for name in installation.image_pull_secrets]
    return {"imagePullSecrets": secrets} if secrets else {}


def _cluster_rules(installation: Installation) -> list[Object]:
    watched: dict[str, list[str]] = {}
    for kind in kinds.snapshot_inputs():
        watched.setdefault(kind.group, []).append(kind.plural)
    told: dict[str, list[str]] = {}
    for kind in kinds.policies():
        told.setdefault(kind.group, []).append(f"{kind.plural}/status")
    mutating, validating = webhook_names(installation)
    return [
        *_external_authority(installation),
        *({"apiGroups": [group], "resources": sorted(plurals), "verbs": READ} for group, plurals in watched.items()),
        # What became of a policy is written on it: in its status, and nowhere else.
        *({"apiGroups": [group], "resources": sorted(names), "verbs": ["patch"]} for group, names in told.items()),
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        # Whether a workload's account may read the secret that a DestinationRule gives to it.
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
        # The mesh's root certificate goes into every namespace; creation cannot be limited to a name.
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [ROOT_CONFIG_MAP, CRL_CONFIG_MAP],
            "verbs": [*READ, "patch"],
        },
        # The API server must know the certificate by which it calls us.
        {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["mutatingwebhookconfigurations"],
            "resourceNames": [mutating],
            "verbs": [*READ, "patch"],
        },
        {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["validatingwebhookconfigurations"],
            "resourceNames": [validating],
            "verbs": [*READ, "patch"],
        },
    ]


def _external_authority(installation: Installation) -> list[Object]:
    """Where Kubernetes' CertificateSigningRequests are used: asking, and approving for the signers that are named."""
    environment = installation.environment
    if environment.get("EXTERNAL_CA") != KUBERNETES_API:
        return []
    entries = installation.mesh_config.get("caCertificates") or ()
    signers = {str(name) for entry in entries for name in entry.get("certSigners") or ()}
    signers |= {environment.get("K8S_SIGNER", "")} - {""}
    group, requests = "certificates.k8s.io", "certificatesigningrequests"
    return [
        {"apiGroups": [group], "resources": [requests], "verbs": [*READ, "create", "delete"]},
        {"apiGroups": [group], "resources": [f"{requests}/approval"], "verbs": ["update"]},
        {"apiGroups": [group], "resources": ["signers"], "resourceNames": sorted(signers), "verbs": ["approve"]},
    ]


def _own_rules() -> list[Object]:
    """The CA's own secrets, the state of its rotation, and the mesh's settings."""
    return [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": [*READ, "create", "patch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": [*READ, "create", "patch"]},
    ]


def credentials_role(namespace: str) -> str:
    """The role that a namespace binds to the control plane in `namespace`, to have its secrets given to workloads."""
    return f"istiod-credentials-{namespace}"


def webhook_names(installation: Installation) -> tuple[str, str]:
    """Names of the mutating and of the validating webhook configuration, as Istio's."""
    namespace = installation.namespace
    suffix = installation.name_suffix
    mutating = f"istio-sidecar-injector{suffix}" + ("" if namespace == "istio-system" else f"-{namespace}")
    return mutating, f"istio-validator{suffix}-{namespace}"
