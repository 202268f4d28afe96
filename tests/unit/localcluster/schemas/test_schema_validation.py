"""Rules of the kinds: each wrong manifest gets the answer that kubectl's users know."""

import copy
from typing import Any

import pytest

from localcluster.apiserver import defaults, kinds, schemas
from localcluster.apiserver.kinds import KindInfo

Object = dict[str, Any]
CONTAINER = {"name": "main", "image": "nginx"}


def errors(kind: KindInfo, manifest: Object, old: Object | None = None) -> list[str]:
    """The texts of the violations, after decoding and defaults, as the server does."""
    value = defaults.apply(kind, schemas.decode(kind, manifest).object)
    before = None if old is None else defaults.apply(kind, schemas.decode(kind, old).object)
    operation = "create" if old is None else "update"
    return [str(error) for error in schemas.validate(kind, value, operation, before)]


def pod(*containers: Object, **spec: Any) -> Object:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers) or [CONTAINER], **spec}}


def deployment(**spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [CONTAINER]}}
    return {
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


def service(*ports: Object, **spec: Any) -> Object:
    return {"metadata": {"name": "web"}, "spec": {"ports": list(ports) or [{"port": 80}], **spec}}


GOOD: list[tuple[KindInfo, Object]] = [
    (kinds.POD, pod()),
    (
        kinds.POD,
        pod(
            {**CONTAINER, "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
            volumes=[{"name": "data"}],
            initContainers=[{"name": "first", "image": "busybox"}],
        ),
    ),
    (kinds.DEPLOYMENT, deployment()),
    (kinds.SERVICE, service()),
    (kinds.SERVICE, {"metadata": {"name": "db"}, "spec": {"clusterIP": "None"}}),
    (kinds.SERVICE, {"metadata": {"name": "db"}, "spec": {"type": "ExternalName", "externalName": "example.com"}}),
    (kinds.CONFIG_MAP, {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "x"}}),
    (kinds.SECRET, {"metadata": {"name": "s"}, "data": {"key": "eA=="}}),
    (kinds.CLUSTER_ROLE, {"metadata": {"name": "system:node"}, "rules": []}),
]


@pytest.mark.parametrize(("kind", "manifest"), GOOD)
def test_good_manifests_pass(kind: KindInfo, manifest: Object) -> None:
    assert errors(kind, manifest) == []


PODS: list[tuple[Object, list[str]]] = [
    ({"metadata": {"name": "p"}}, ["spec.containers: Required value"]),
    (pod({"name": "main"}), ["spec.containers[0].image: Required value"]),
    (pod({"image": "nginx"}), ["spec.containers[0].name: Required value"]),
    (pod(CONTAINER, CONTAINER), ['spec.containers[1].name: Duplicate value: "main"']),
    (
        pod({**CONTAINER, "ports": [{"containerPort": 70000}]}),
        ["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"],
    ),
    (
        pod({**CONTAINER, "ports": [{"containerPort": 80, "protocol": "HTTP"}]}),
        ['spec.containers[0].ports[0].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"'],
    ),
    (
        pod({**CONTAINER, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}),
        ['spec.containers[0].volumeMounts[0].name: Not found: "data"'],
    ),
    (
        pod(restartPolicy="Sometimes"),
        ['spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"'],
    ),
    (
        pod({**CONTAINER, "imagePullPolicy": "Maybe"}),
        [
            'spec.containers[0].imagePullPolicy: Unsupported value: "Maybe": '
            'supported values: "Always", "IfNotPresent", "Never"'
        ],
    ),
    (
        pod({**CONTAINER, "readinessProbe": {"periodSeconds": 1}}),
        ["spec.containers[0].readinessProbe: Required value: must specify a handler type"],
    ),
    (
        pod({**CONTAINER, "livenessProbe": {"httpGet": {"port": 80}, "successThreshold": 2}}),
        ["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
    ),
    (
        pod({**CONTAINER, "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.image"}}}]}),
        [
            'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "spec.image": supported '
            'values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", '
            '"spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"'
        ],
    ),
    (
        pod({**CONTAINER, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}}),
        ['spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1500m'],
    ),
    (
        pod(volumes=[{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}]),
        ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
    ),
    (pod(volumes=[{"name": "a", "secret": {}}]), ["spec.volumes[0].secret.secretName: Required value"]),
    (
        pod(volumes=[{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 60}}]}}]),
        [
            "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: "
            "may not specify a duration less than 10 minutes",
            "spec.volumes[0].projected.sources[0].serviceAccountToken.path: Required value",
        ],
    ),
]


@pytest.mark.parametrize(("manifest", "expected"), PODS)
def test_a_wrong_pod_is_refused_with_the_field_and_the_rule(manifest: Object, expected: list[str]) -> None:
    assert errors(kinds.POD, manifest) == expected


OTHERS: list[tuple[KindInfo, Object, list[str]]] = [
    (
        kinds.DEPLOYMENT,
        {"metadata": {"name": "web"}, "spec": {"template": deployment()["spec"]["template"]}},
        ["spec.selector: Required value"],
    ),
    (
        kinds.DEPLOYMENT,
        deployment(selector={"matchLabels": {"app": "other"}}),
        ['spec.template.metadata.labels: Invalid value: {"app": "web"}: `selector` does not match template `labels`'],
    ),
    (
        kinds.DEPLOYMENT,
        deployment(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
        [
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ],
    ),
    (
        kinds.DEPLOYMENT,
        deployment(strategy={"type": "Rolling"}),
        ['spec.strategy.type: Unsupported value: "Rolling": supported values: "Recreate", "RollingUpdate"'],
    ),
    (
        kinds.DEPLOYMENT,
        deployment(replicas=-1),
        ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
    ),
    (kinds.SERVICE, {"metadata": {"name": "web"}, "spec": {}}, ["spec.ports: Required value"]),
    (
        kinds.SERVICE,
        service({"port": 80}, {"port": 81}),
        ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
    ),
    (
        kinds.SERVICE,
        service({"name": "a", "port": 80}, {"name": "b", "port": 80}),
        ['spec.ports[1]: Duplicate value: {"protocol": "TCP", "port": 80}'],
    ),
    (
        kinds.SERVICE,
        service(type="Cluster"),
        [
            'spec.type: Unsupported value: "Cluster": supported values: "ClusterIP", "ExternalName", '
            '"LoadBalancer", "NodePort"'
        ],
    ),
    (
        kinds.SECRET,
        {"metadata": {"name": "s"}, "type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="}},
        ["data[tls.key]: Required value"],
    ),
    (
        kinds.ROLE_BINDING,
        {"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "ServiceAccount"}]},
        ["subjects[0].name: Required value", "subjects[0].namespace: Required value"],
    ),
    (
        kinds.CUSTOM_RESOURCE_DEFINITION,
        {
            "metadata": {"name": "wrong"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": True, "storage": True}],
            },
        },
        [
            'metadata.name: Invalid value: "wrong": must be spec.names.plural+"."+spec.group',
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ],
    ),
]


@pytest.mark.parametrize(("kind", "manifest", "expected"), OTHERS)
def test_a_wrong_object_is_refused_with_the_field_and_the_rule(
    kind: KindInfo, manifest: Object, expected: list[str]
) -> None:
    assert errors(kind, manifest) == expected


def test_names_labels_and_config_keys_keep_to_their_syntax() -> None:
    found = errors(kinds.CONFIG_MAP, {"metadata": {"name": "My_Map", "labels": {"a b": "-x"}}, "data": {"a/b": ""}})

    assert [text.partition(": a ")[0] for text in found] == [
        'metadata.name: Invalid value: "My_Map"',
        'metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '
        "'-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  "
        "or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        'metadata.labels: Invalid value: "-x"',
        'data[a/b]: Invalid value: "a/b"',
    ]


def test_a_name_or_a_prefix_is_needed() -> None:
    assert errors(kinds.CONFIG_MAP, {"metadata": {}}) == [
        "metadata.name: Required value: name or generateName is required"
    ]
    assert errors(kinds.CONFIG_MAP, {"metadata": {"generateName": "c-"}}) == []


def test_the_selector_of_a_deployment_is_for_ever() -> None:
    changed = deployment(selector={"matchLabels": {"app": "web", "tier": "front"}})
    changed["spec"]["template"] = copy.deepcopy(changed["spec"]["template"])
    changed["spec"]["template"]["metadata"]["labels"]["tier"] = "front"

    assert errors(kinds.DEPLOYMENT, changed, deployment()) == [
        'spec.selector: Invalid value: {"matchLabels": {"app": "web", "tier": "front"}}: field is immutable'
    ]


def test_the_address_of_a_service_is_for_ever() -> None:
    assert errors(kinds.SERVICE, service(clusterIP="10.96.0.8"), service(clusterIP="10.96.0.7")) == [
        'spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set'
    ]


def test_an_immutable_secret_stays_as_it_is() -> None:
    before = {"metadata": {"name": "s"}, "immutable": True, "data": {"a": "eA=="}}
    after = {"metadata": {"name": "s"}, "immutable": True, "data": {"a": "eQ=="}}

    assert errors(kinds.SECRET, after, before) == [
        "data: Forbidden: field is immutable when `immutable` is set",
    ]
    assert errors(kinds.SECRET, before, before) == []


def test_a_running_pod_may_change_its_image_but_not_its_environment() -> None:
    assert errors(kinds.POD, pod({**CONTAINER, "image": "nginx:2", "imagePullPolicy": "Always"}), pod()) == []
    (text,) = errors(kinds.POD, pod({**CONTAINER, "env": [{"name": "A", "value": "b"}]}), pod())
    assert text.startswith("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`")
    assert text.endswith("changed: containers")


def test_a_running_pod_may_gain_tolerations_but_not_lose_them() -> None:
    one = {"key": "a", "operator": "Exists"}
    two = {"key": "b", "operator": "Exists"}

    assert errors(kinds.POD, pod(tolerations=[one, two]), pod(tolerations=[one])) == []
    assert len(errors(kinds.POD, pod(tolerations=[two]), pod(tolerations=[one]))) == 1


def test_a_name_once_given_stays() -> None:
    before = {"metadata": {"name": "a", "uid": "1"}}

    assert errors(kinds.CONFIG_MAP, {"metadata": {"name": "b", "uid": "1"}}, before) == [
        'metadata.name: Invalid value: "b": field is immutable'
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("spec", "template", "spec", "containers"), ("merge", "name")),
        (("spec", "template", "spec", "containers", "env"), ("merge", "name")),
        (("spec", "template", "spec", "containers", "ports"), ("merge", "containerPort")),
        (("spec", "template", "spec", "containers", "command"), ("replace", "")),
        (("spec", "template", "spec", "tolerations"), ("replace", "")),
        (("metadata", "finalizers"), ("merge", "")),
        (("metadata", "ownerReferences"), ("merge", "uid")),
        (("spec", "nothing", "here"), ("replace", "")),
    ],
)
def test_lists_are_merged_by_the_keys_of_their_fields(path: tuple[str, ...], expected: tuple[str, str]) -> None:
    assert schemas.patch_strategy(kinds.DEPLOYMENT, path) == expected
