"""What an injected pod looks like."""

import copy
import json
from typing import Any

import jsonpatch
import msgspec
import pytest
import yaml

from fakes.injection_vectors import rows
from mutua.api.meshconfig import MeshConfig
from mutua.injection import app_probes, configuration, containers, patch, settings
from mutua.injection.settings import InjectionError, InjectorSettings
from mutua.installation import values
from mutua.programs import init

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "generateName": "backend-5d4f8-",
        "labels": {"app": "backend", "pod-template-hash": "5d4f8"},
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "backend-5d4f8", "controller": True, "uid": "1"}
        ],
    },
    "spec": {"containers": [{"name": "backend", "image": "nginx", "ports": [{"containerPort": 80}]}]},
}


def injected(pod: dict[str, Any] = POD, **changes: Any) -> dict[str, Any]:
    return patch.injected(pod, "secure-apps", InjectorSettings(**changes))


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    everything = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
    return next(item for item in everything if item["name"] == name)


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container(pod, "istio-proxy")["env"]}


def test_the_patch_leads_to_the_injected_pod() -> None:
    """Applied by another implementation of RFC 6902, the operations give exactly the pod; the original stays."""
    before = copy.deepcopy(POD)

    operations = patch.inject(POD, "secure-apps", InjectorSettings()).operations

    assert before == POD
    assert injected() == jsonpatch.apply_patch(POD, json.loads(msgspec.json.encode(operations)))


def test_ordinary_container_by_default() -> None:
    """The sidecar stands beside the application, where `spec.containers` shows it."""
    pod = injected()

    assert [item["name"] for item in pod["spec"]["containers"]] == ["backend", "istio-proxy"]
    assert [item["name"] for item in pod["spec"]["initContainers"]] == ["istio-init"]
    assert "restartPolicy" not in container(pod, "istio-proxy")


@pytest.mark.parametrize("row", rows("native-sidecar-annotation"))
def test_native_sidecar(row: dict[str, Any]) -> None:
    """The annotation chooses; without it the setting."""
    pod = copy.deepcopy(POD)
    pod["metadata"]["annotations"] = row["annotations"]

    after = injected(pod, native_sidecar=row["nativeSidecarDefault"])

    place = row["expect"]["istio-proxy in"]
    assert "istio-proxy" in [item["name"] for item in after["spec"][place]]


def test_holding_the_application_makes_a_native_sidecar() -> None:
    """Kubernetes starts the application once the sidecar's start-up probe has passed."""
    pod = injected(hold_application=True)

    proxy = pod["spec"]["initContainers"][1]
    assert (proxy["name"], proxy["restartPolicy"]) == ("istio-proxy", "Always")
    assert proxy["startupProbe"]["httpGet"]["path"] == "/healthz/ready"


def test_owner_is_the_deployment() -> None:
    """Users know Deployments, not ReplicaSets."""
    told = environment(injected())

    assert told["ISTIO_META_WORKLOAD_NAME"] == "backend"
    assert told["ISTIO_META_OWNER"] == "kubernetes://apis/apps/v1/namespaces/secure-apps/deployments/backend"


def test_what_the_image_is_pulled_with() -> None:
    """Secrets are named beside those of the pod's own, each once; a reviewer of the status finds them."""
    pod = copy.deepcopy(POD)
    pod["spec"]["imagePullSecrets"] = [{"name": "own"}, {"name": "mesh"}]

    after = injected(pod, image_pull_secrets=("mesh",))

    assert after["spec"]["imagePullSecrets"] == [{"name": "own"}, {"name": "mesh"}]
    assert json.loads(after["metadata"]["annotations"]["sidecar.istio.io/status"])["imagePullSecrets"] == ["mesh"]
    assert "imagePullSecrets" not in injected()["spec"]


def test_exempting_by_mark() -> None:
    """Init container, agent and capture of the control plane's ports follow one setting."""
    pod = injected(exempt_by_mark=True, upstream_mark=1337)

    arguments = container(pod, "istio-init")["args"]
    assert arguments[4:6] == ["--exempt-mark", "1337"]
    assert arguments[arguments.index("-o") + 1] == "15012,15013"
    assert environment(pod)["MUTUA_UPSTREAM_MARK"] == "1337"


def test_labels_of_the_user_win() -> None:
    """Canonical names that the user gave stay."""
    pod = copy.deepcopy(POD)
    pod["metadata"]["labels"]["service.istio.io/canonical-name"] = "mine"

    labels = injected(pod)["metadata"]["labels"]

    assert labels["service.istio.io/canonical-name"] == "mine"
    assert labels["security.istio.io/tlsMode"] == "istio"


def test_wishes_for_the_sidecar_are_merged() -> None:
    """A container `istio-proxy` in the user's pod changes ours; it is not a second one."""
    pod = copy.deepcopy(POD)
    wish = {"name": "istio-proxy", "image": "auto", "env": [{"name": "CA_ADDR", "value": "other:1"}], "tty": True}
    pod["spec"]["containers"].append(wish)

    after = injected(pod)

    assert [item["name"] for item in after["spec"]["containers"]] == ["backend", "istio-proxy"]
    proxy = container(after, "istio-proxy")
    assert (proxy["tty"], proxy["image"], environment(after)["CA_ADDR"]) == (True, "mutua/proxyv2:latest", "other:1")


@pytest.mark.parametrize("row", rows("probe-rewrite"))
def test_probes_ask_the_agent(row: dict[str, Any]) -> None:
    """The kubelet asks the agent's port; everything else about the probe stays."""
    pod = copy.deepcopy(row["pod"])

    app_probes.rewrite(pod["spec"]["containers"], row["statusPort"])

    assert row["expect"]["pod"] == pod


@pytest.mark.parametrize("row", rows("probe-rewrite-decision"))
def test_whether_probes_are_rewritten(row: dict[str, Any]) -> None:
    """The annotation decides, else the installation."""
    rewrite = row["config"]["sidecarInjectorWebhook.rewriteAppHTTPProbe"]
    mesh = configuration.injector_settings(
        {"sidecarInjectorWebhook": {"rewriteAppHTTPProbe": rewrite}}, MeshConfig(), namespace="istio-system"
    )

    told = settings.for_pod(row["annotations"], mesh).readiness.rewrite_app_probes

    assert row["expect"]["rewrite"] is told


def _probed(**fields: Any) -> dict[str, Any]:
    pod = copy.deepcopy(POD)
    pod["spec"]["containers"][0] |= fields
    return pod


def test_the_agent_learns_what_to_ask() -> None:
    """Named ports are resolved, scheme and headers kept; the kubelet itself speaks plain HTTP to the agent."""
    header = {"name": "X-Who", "value": "kubelet"}
    get = {"path": "/health", "port": "web", "scheme": "HTTPS", "httpHeaders": [header]}
    hook = {"preStop": {"httpGet": {"path": "/bye", "port": 80}}, "postStart": {"exec": {"command": ["true"]}}}
    pod = _probed(
        ports=[{"name": "web", "containerPort": 8443}],
        livenessProbe={"httpGet": get, "timeoutSeconds": 3, "periodSeconds": 7},
        lifecycle=hook,
    )

    after = injected(pod)

    application = container(after, "backend")
    asked = {"path": "/app-health/backend/livez", "port": 15020, "scheme": "HTTP", "httpHeaders": [header]}
    assert application["livenessProbe"] == {"httpGet": asked, "timeoutSeconds": 3, "periodSeconds": 7}
    assert application["lifecycle"]["preStop"] == {
        "httpGet": {"path": "/app-lifecycle/backend/prestopz", "port": 15020}
    }
    assert application["lifecycle"]["postStart"] == hook["postStart"]
    assert json.loads(environment(after)["ISTIO_KUBE_APP_PROBERS"]) == {
        "/app-health/backend/livez": {"httpGet": get | {"port": 8443}, "timeoutSeconds": 3},
        "/app-lifecycle/backend/prestopz": {"httpGet": {"path": "/bye", "port": 80}, "timeoutSeconds": 30},
    }


@pytest.mark.parametrize(
    "action",
    [
        {"httpGet": {"path": "/", "port": 80, "host": "169.254.169.254"}},
        {"httpGet": {"path": "/", "port": "nowhere"}},
        {"tcpSocket": {"port": 80, "host": "10.0.0.1"}},
        {"exec": {"command": ["true"]}},
    ],
)
def test_what_is_not_for_the_agent_stays(action: dict[str, Any]) -> None:
    """The agent asks only its own pod, and only what can be asked over the network."""
    after = injected(_probed(readinessProbe=action))

    assert container(after, "backend")["readinessProbe"] == action
    assert "ISTIO_KUBE_APP_PROBERS" not in environment(after)


@pytest.mark.parametrize(
    "annotations", [{"sidecar.istio.io/rewriteAppHTTPProbers": "false"}, {"status.sidecar.istio.io/port": "0"}]
)
@pytest.mark.parametrize("probe", ["readinessProbe", "livenessProbe", "startupProbe"])
def test_probes_that_stay_are_warned_about(probe: str, annotations: dict[str, str]) -> None:
    """The kubelet has no certificate; the user learns it at apply time. A rewritten probe is no reason for words."""
    pod = _probed(**{probe: {"httpGet": {"path": "/", "port": 80}}})
    assert patch.inject(pod, "secure-apps", InjectorSettings()).warnings == ()
    pod["metadata"]["annotations"] = annotations

    warnings = patch.inject(pod, "secure-apps", InjectorSettings()).warnings

    assert len(warnings) == 1
    assert probe in warnings[0]


def test_another_port_of_the_agent() -> None:
    """Init container, agent and probes follow the annotation."""
    pod = _probed(readinessProbe={"httpGet": {"port": 80}})
    pod["metadata"]["annotations"] = {"status.sidecar.istio.io/port": "15099"}

    after = injected(pod)

    assert container(after, "backend")["readinessProbe"]["httpGet"]["port"] == 15099
    assert "15099" in container(after, "istio-init")["args"][container(after, "istio-init")["args"].index("-d") + 1]
    assert json.loads(environment(after)["PROXY_CONFIG"])["statusPort"] == 15099


@pytest.mark.parametrize("row", rows("annotation-validation"))
def test_annotation_validation(row: dict[str, Any]) -> None:
    """Quantities are read as Kubernetes reads them, and nothing else gets into the pod."""
    annotations = row.get("annotations") or {"sidecar.istio.io/proxyCPU": row["value"]}

    if row["expect"]["error"]:
        with pytest.raises(InjectionError) as caught:
            settings.for_pod(annotations, InjectorSettings())
        assert "sidecar.istio.io/proxy" in caught.value.message
    else:
        settings.for_pod(annotations, InjectorSettings())


@pytest.mark.parametrize("row", rows("proxy-image"))
def test_proxy_image(row: dict[str, Any]) -> None:
    """Hub, tag and type of image, from values, proxy config and annotation."""
    mesh = MeshConfig(default_config=row["proxyConfig"] or {})
    told = configuration.injector_settings(row["values"], mesh, namespace="istio-system")

    chosen = settings.for_pod(row["annotations"], told)

    assert row["expect"]["image"] == chosen.image


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "bad"),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.0.0.0/40"),
        ("traffic.sidecar.istio.io/includeInboundPorts", "80,x"),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "70000"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "*"),
        ("readiness.status.sidecar.istio.io/periodSeconds", "-1"),
        ("sidecar.istio.io/nativeSidecar", "perhaps"),
        ("proxy.istio.io/config", "[1]"),
        ("proxy.istio.io/config", "{"),
        ("status.sidecar.istio.io/port", "15021"),
        ("status.sidecar.istio.io/port", "70000"),
        ("sidecar.istio.io/rewriteAppHTTPProbers", "perhaps"),
    ],
)
def test_bad_annotations_are_named(name: str, value: str) -> None:
    """Whoever wrote it learns which annotation, and how to write it."""
    with pytest.raises(InjectionError) as caught:
        settings.for_pod({name: value}, InjectorSettings())

    assert name in caught.value.message
    assert caught.value.hint


def _template(row: dict[str, Any]) -> dict[str, Any]:
    document = yaml.safe_load(row["input"])
    pod = document["spec"]["template"] if document["kind"] == "Deployment" else document
    if document["kind"] == "Deployment":
        owner = {
            "kind": "Deployment",
            "apiVersion": "apps/v1",
            "name": document["metadata"]["name"],
            "controller": True,
        }
        pod.setdefault("metadata", {})["ownerReferences"] = [owner]
    return {"namespace": document["metadata"].get("namespace", "default"), "pod": pod}


GOLDEN = {
    "golden/hello.yaml.injected",
    "golden/hello-old-version.yaml.injected",
    "golden/hello-namespace.yaml.injected",
    "golden/traffic-params.yaml.injected",
    "golden/status_params.yaml.injected",
    "golden/status_annotations.yaml.injected",
    "golden/status_annotations_zeroport.yaml.injected",
    "golden/traffic-annotations-wildcards.yaml.injected",
    "golden/native-sidecar-opt-in.yaml.injected",
    "golden/native-sidecar.yaml.injected",
    "golden/native-sidecar-old-version.yaml.injected",
    "golden/hello-always.yaml.injected",
    "golden/hello-never.yaml.injected",
}


@pytest.mark.parametrize("row", [row for row in rows("golden") if row.id in GOLDEN or row.id == "absent"])
def test_golden(row: dict[str, Any]) -> None:
    """Facts of Istio's injected pods that our sidecar shares: owner, identity, ports, probes, capture, volumes."""
    sets = [f"{setting}" for setting in row["config"].get("set") or ()]
    tree = values.resolve(settings=[*_escaped(sets), "values.global.proxy.nativeSidecar=true"])
    installation = values.installation(tree, "latest")
    mesh = configuration.injector_settings(installation.values, MeshConfig(), namespace="istio-system")
    if row["config"].get("nativeSidecars") == "disabled":
        mesh = msgspec.structs.replace(mesh, native_sidecar=False)
    (expected,) = row["expect"]["objects"]
    template = _template(row)

    after = patch.injected(template["pod"], template["namespace"], mesh)

    assert expected["containerOrder"] == containers.names(after["spec"]["containers"])
    assert expected["initContainerOrder"] == containers.names(after["spec"]["initContainers"])
    assert expected["labels"] == after["metadata"]["labels"]
    istio = next(
        item for item in [*expected["containers"], *(expected["initContainers"] or ())] if item["name"] == "istio-proxy"
    )
    ours = container(after, "istio-proxy")
    for field in ("ports", "readinessProbe", "startupProbe", "securityContext", "restartPolicy"):
        assert istio.get(field) == ours.get(field), field
    told = environment(after)
    assert json.loads(istio["envValues"].get(app_probes.VARIABLE, "{}")) == json.loads(
        told.get(app_probes.VARIABLE, "{}")
    )
    for theirs in (*expected["containers"], *expected["initContainers"]):
        for field in ("readinessProbe", "livenessProbe", "startupProbe"):
            assert theirs.get(field) == container(after, theirs["name"]).get(field), field
    for name in ("ISTIO_META_WORKLOAD_NAME", "ISTIO_META_OWNER", "ISTIO_META_APP_CONTAINERS", "TRUST_DOMAIN"):
        assert istio["envValues"][name] == told[name]
    assert json.loads(istio["envValues"]["ISTIO_META_POD_PORTS"]) == json.loads(told["ISTIO_META_POD_PORTS"])
    fields = {entry["name"]: entry["valueFrom"] for entry in ours["env"] if "valueFrom" in entry}
    for name, reference in fields.items():
        assert istio["envFrom"][name] == reference
    mounts = {mount["name"]: mount["mountPath"] for mount in ours["volumeMounts"]}
    assert mounts.items() <= istio["volumeMounts"].items()
    init = next(item for item in expected["initContainers"] if item["name"] == "istio-init")
    ours_init = container(after, "istio-init")
    assert init["securityContext"] == ours_init["securityContext"]
    assert _flags(init["args"][1:]) == _flags(ours_init["args"])


def _escaped(sets: list[str]) -> list[str]:
    """Istio's tests write comma-separated lists bare; they are text."""
    return [f"{path}='{value}'" if "," in value else f"{path}={value}" for path, _, value in map(_split, sets)]


def _split(setting: str) -> tuple[str, str, str]:
    return setting.partition("=")


def _flags(arguments: list[str]) -> dict[str, set[str]]:
    """Flags with their lists."""
    pairs = dict(zip(arguments[::2], arguments[1::2], strict=False))
    pairs = {flag: value for flag, value in pairs.items() if not flag.startswith("--")}
    return {flag: set(value.split(",")) for flag, value in pairs.items()}


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {"traffic.sidecar.istio.io/includeOutboundIPRanges": "", "traffic.sidecar.istio.io/includeInboundPorts": ""},
        {"traffic.sidecar.istio.io/excludeOutboundPorts": "5432", "traffic.sidecar.istio.io/includeInboundPorts": "80"},
        {"traffic.sidecar.istio.io/includeOutboundPorts": "80", "traffic.sidecar.istio.io/excludeInboundPorts": "9"},
        {"traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.0.0.0/8,fd00::/8"},
    ],
)
@pytest.mark.parametrize("exempt_by_mark", [False, True])
def test_the_init_container_understands_us(annotations: dict[str, str], exempt_by_mark: bool) -> None:
    """Whatever the injector writes, `mutua-init` can read."""
    pod = copy.deepcopy(POD)
    pod["metadata"]["annotations"] = annotations

    arguments = container(injected(pod, exempt_by_mark=exempt_by_mark), "istio-init")["args"]

    assert init.main([*arguments, "--dry-run"]) == 0


def test_volumes_for_the_sidecar_alone() -> None:
    """Certificates from files reach Envoy by them; the application does not see them, and ours are never replaced."""
    volumes = {"cert": {"secret": {"secretName": "web-cert"}}, "istio-token": {"hostPath": {"path": "/"}}}
    mounts = {"cert": {"mountPath": "/etc/certs", "readOnly": True}}
    pod = copy.deepcopy(POD)
    pod["metadata"]["annotations"] = {
        "sidecar.istio.io/userVolume": json.dumps(volumes),
        "sidecar.istio.io/userVolumeMount": json.dumps(mounts),
    }
    made = injected(pod)

    assert {"name": "cert", "secret": {"secretName": "web-cert"}} in made["spec"]["volumes"]
    assert {"name": "cert"} | mounts["cert"] in container(made, "istio-proxy")["volumeMounts"]
    assert "volumeMounts" not in container(made, "backend")
    assert "hostPath" not in json.dumps(made["spec"]["volumes"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sidecar.istio.io/userVolume", '{"cert": "web-cert"}'),
        ("sidecar.istio.io/userVolumeMount", '{"cert": {"mountPath": "etc/certs"}}'),
        ("sidecar.istio.io/userVolumeMount", "[1]"),
    ],
)
def test_volumes_that_are_none_are_named(name: str, value: str) -> None:
    pod = copy.deepcopy(POD)
    pod["metadata"]["annotations"] = {name: value}
    with pytest.raises(InjectionError, match=name):
        injected(pod)
