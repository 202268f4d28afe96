"""Kubernetes' defaults: what an object says after the server read it.

Source: k8s.io/kubernetes/pkg/apis/*/v1/defaults.go.
"""

from collections.abc import Callable
from typing import Any

from localcluster.apiserver.documents import copied
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.schemas import custom

Object = dict[str, Any]

_PROJECTION_MODE = 0o644


def apply(kind: KindInfo, value: Object) -> Object:
    """A copy of `value` (decoded) with every default that Kubernetes fills in. Applying it again changes nothing."""
    if kind.is_custom:
        schema = custom.schema_of(kind)
        return copied(value) if schema is None else custom.with_defaults(schema, copied(value))
    result = copied(value)
    rule = _RULES.get((kind.group, kind.kind))
    if rule is not None:
        rule(result)
    return result


def _set(target: Object, **values: Any) -> None:
    """Set what is missing; a value that was given stays, also an empty one."""
    for name, value in values.items():
        if target.get(name) is None:
            target[name] = value


def _child(target: Object, name: str) -> Object:
    """The object below `name`, made if it is missing."""
    if not isinstance(target.get(name), dict):
        target[name] = {}
    child: Object = target[name]
    return child


def _pod(value: Object) -> None:
    spec = _child(value, "spec")
    _pod_spec(spec)
    # Pods ask for what they are limited to; templates keep the user's words.
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        resources = container.get("resources") or {}
        for name, amount in (resources.get("limits") or {}).items():
            resources.setdefault("requests", {}).setdefault(name, amount)
    _set(spec, enableServiceLinks=True)


def _template(owner: Object) -> None:
    template = _child(owner, "template")
    _child(template, "metadata")
    _pod_spec(_child(template, "spec"))


def _pod_spec(spec: Object) -> None:
    _set(
        spec,
        restartPolicy="Always",
        dnsPolicy="ClusterFirst",
        schedulerName="default-scheduler",
        terminationGracePeriodSeconds=30,
    )
    _set(spec, securityContext={})
    # Both names are one field; clients read either.
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(group) or []:
            _container(container)
            if spec.get("hostNetwork"):
                for port in container.get("ports") or []:
                    _set(port, hostPort=port.get("containerPort"))
    for volume in spec.get("volumes") or []:
        _volume(volume)


def _container(container: Object) -> None:
    if container.get("image"):
        _set(container, imagePullPolicy=_pull_policy(container["image"]))
    _set(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
    _set(container, resources={})
    for port in container.get("ports") or []:
        _set(port, protocol="TCP")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if isinstance(probe, dict):
            _set(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            _handler(probe)
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict):
            _handler(handler)
    for variable in container.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference:
            _set(reference, apiVersion="v1")


def _handler(handler: Object) -> None:
    request = handler.get("httpGet")
    if isinstance(request, dict):
        _set(request, path="/", scheme="HTTP")
    call = handler.get("grpc")
    if isinstance(call, dict):
        _set(call, service="")


def _pull_policy(image: str) -> str:
    """`Always` for the tag latest, given or meant; a digest names one image for ever."""
    last = image.rpartition("/")[2]
    if "@" in last:
        return "IfNotPresent"
    _, colon, tag = last.partition(":")
    return "Always" if not colon or tag == "latest" else "IfNotPresent"


def _volume(volume: Object) -> None:
    if all(name == "name" for name in volume):
        volume["emptyDir"] = {}
    for name in ("secret", "configMap", "downwardAPI", "projected"):
        source = volume.get(name)
        if isinstance(source, dict):
            _set(source, defaultMode=_PROJECTION_MODE)
            if name == "downwardAPI":
                _downward_items(source)
    for source in (volume.get("projected") or {}).get("sources") or []:
        if isinstance(source.get("serviceAccountToken"), dict):
            _set(source["serviceAccountToken"], expirationSeconds=3600)
        if isinstance(source.get("downwardAPI"), dict):
            _downward_items(source["downwardAPI"])
    if isinstance(volume.get("hostPath"), dict):
        _set(volume["hostPath"], type="")


def _downward_items(source: Object) -> None:
    for item in source.get("items") or []:
        if item.get("fieldRef"):
            _set(item["fieldRef"], apiVersion="v1")


def _deployment(value: Object) -> None:
    spec = _child(value, "spec")
    _template(spec)
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = _child(spec, "strategy")
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(_child(strategy, "rollingUpdate"), maxSurge="25%", maxUnavailable="25%")


def _replica_set(value: Object) -> None:
    spec = _child(value, "spec")
    _template(spec)
    _set(spec, replicas=1)


def _stateful_set(value: Object) -> None:
    spec = _child(value, "spec")
    _template(spec)
    _set(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    _set(spec, persistentVolumeClaimRetentionPolicy={"whenDeleted": "Retain", "whenScaled": "Retain"})
    strategy = _child(spec, "updateStrategy")
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(_child(strategy, "rollingUpdate"), partition=0)


def _daemon_set(value: Object) -> None:
    spec = _child(value, "spec")
    _template(spec)
    _set(spec, revisionHistoryLimit=10)
    strategy = _child(spec, "updateStrategy")
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(_child(strategy, "rollingUpdate"), maxUnavailable=1, maxSurge=0)


def _job_spec(spec: Object) -> None:
    template_spec = (spec.get("template") or {}).get("spec") or {}
    has_policy = template_spec.get("restartPolicy") is not None
    _template(spec)
    if not has_policy:
        # A job has no default here: `Always` would be refused, with words that the user never wrote.
        spec["template"]["spec"].pop("restartPolicy", None)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        _set(spec, completions=1, parallelism=1)
    _set(spec, parallelism=1, backoffLimit=6, completionMode="NonIndexed", suspend=False, manualSelector=False)


def _job(value: Object) -> None:
    _job_spec(_child(value, "spec"))


def _cron_job(value: Object) -> None:
    spec = _child(value, "spec")
    _set(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    _job_spec(_child(_child(spec, "jobTemplate"), "spec"))


def _service(value: Object) -> None:
    spec = _child(value, "spec")
    _set(spec, type="ClusterIP", sessionAffinity="None")
    if spec["sessionAffinity"] == "ClientIP":
        _set(_child(_child(spec, "sessionAffinityConfig"), "clientIP"), timeoutSeconds=10800)
    for port in spec.get("ports") or []:
        _set(port, protocol="TCP")
        if port.get("targetPort") in (None, "", 0) and port.get("port") is not None:
            port["targetPort"] = port["port"]
    if spec["type"] == "ExternalName":
        return
    _set(spec, internalTrafficPolicy="Cluster", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _set(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _set(spec, allocateLoadBalancerNodePorts=True)
    if spec.get("clusterIP"):
        _set(spec, clusterIPs=[spec["clusterIP"]])


def _endpoints(value: Object) -> None:
    for subset in value.get("subsets") or []:
        for port in subset.get("ports") or []:
            _set(port, protocol="TCP")


def _endpoint_slice(value: Object) -> None:
    for port in value.get("ports") or []:
        _set(port, name="", protocol="TCP")


def _secret(value: Object) -> None:
    _set(value, type="Opaque")


def _role_binding(value: Object) -> None:
    group = "rbac.authorization.k8s.io"
    _set(_child(value, "roleRef"), apiGroup=group)
    for subject in value.get("subjects") or []:
        if subject.get("kind") in ("User", "Group"):
            _set(subject, apiGroup=group)


def _webhooks(value: Object, *, mutating: bool) -> None:
    for webhook in value.get("webhooks") or []:
        _set(webhook, failurePolicy="Fail", matchPolicy="Equivalent", timeoutSeconds=10)
        _set(webhook, namespaceSelector={}, objectSelector={})
        if mutating:
            _set(webhook, reinvocationPolicy="Never")
        for rule in webhook.get("rules") or []:
            _set(rule, scope="*")
        service = (webhook.get("clientConfig") or {}).get("service")
        if isinstance(service, dict):
            _set(service, port=443)


def _admission_policy(value: Object) -> None:
    spec = _child(value, "spec")
    _set(spec, failurePolicy="Fail")
    _policy_match(_child(spec, "matchConstraints"))


def _policy_binding(value: Object) -> None:
    matched = _child(value, "spec").get("matchResources")
    if isinstance(matched, dict):
        _policy_match(matched)


def _policy_match(match: Object) -> None:
    _set(match, matchPolicy="Equivalent", namespaceSelector={}, objectSelector={})
    for name in ("resourceRules", "excludeResourceRules"):
        for rule in match.get(name) or []:
            _set(rule, scope="*")


def _definition(value: Object) -> None:
    spec = _child(value, "spec")
    names = _child(spec, "names")
    if names.get("kind"):
        _set(names, singular=names["kind"].lower(), listKind=f"{names['kind']}List")
    _set(spec, conversion={"strategy": "None"})
    service = ((spec["conversion"].get("webhook") or {}).get("clientConfig") or {}).get("service")
    if isinstance(service, dict):
        _set(service, port=443)


def _claim(value: Object) -> None:
    _set(_child(value, "spec"), volumeMode="Filesystem")


_RULES: dict[tuple[str, str], Callable[[Object], None]] = {
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("", "Endpoints"): _endpoints,
    ("", "Secret"): _secret,
    ("", "PersistentVolumeClaim"): _claim,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _cron_job,
    ("discovery.k8s.io", "EndpointSlice"): _endpoint_slice,
    ("rbac.authorization.k8s.io", "RoleBinding"): _role_binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _role_binding,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): lambda value: _webhooks(value, mutating=True),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): lambda value: _webhooks(value, mutating=False),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): _admission_policy,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): _policy_binding,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
}
