"""Values in, manifests out."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from mutua.api import kinds
from mutua.api.meshconfig import MeshConfig
from mutua.errors import InvalidInputError
from mutua.injection import configuration
from mutua.injection.settings import InjectorSettings
from mutua.installation import manifests, values
from mutua.installation.values import Installation


def installation(*settings: str, operators: tuple[dict[str, Any], ...] = ()) -> Installation:
    return values.installation(values.resolve(operators, settings), "1.2.3")


def objects(*settings: str) -> list[dict[str, Any]]:
    return [item for component in manifests.components(installation(*settings)) for item in component.objects]


def of_kind(kind: str, *settings: str) -> list[dict[str, Any]]:
    return [item for item in objects(*settings) if item["kind"] == kind]


def injector_settings(settings: Sequence[str]) -> InjectorSettings:
    """What the control plane reads from what is installed."""
    (_, injector, _) = of_kind("ConfigMap", *settings)
    return configuration.injector_settings(
        json.loads(injector["data"]["values"]), MeshConfig(), namespace="istio-system", version="x"
    )


def test_order_and_parts() -> None:
    """The namespace comes first, then definitions, then the control plane."""
    core, istiod = manifests.components(installation())

    assert (core.name, istiod.name) == ("Istio core", "Istiod")
    assert ["Namespace"] + ["CustomResourceDefinition"] * len(kinds.ours()) == [item["kind"] for item in core.objects]
    assert istiod.objects[-1]["kind"] == "ValidatingWebhookConfiguration"


def test_all_objects_are_found_again() -> None:
    """Every object says who manages it, and of which revision it is."""
    for item in objects():
        labels = item["metadata"]["labels"]
        assert (labels["app.kubernetes.io/managed-by"], labels["istio.io/rev"]) == ("mutua", "default")
        assert labels["operator.istio.io/component"]


def test_names_where_tools_look() -> None:
    """Names, labels and ports as Istio's."""
    (service,) = of_kind("Service")
    (deployment,) = of_kind("Deployment")
    template = deployment["spec"]["template"]

    assert (service["metadata"]["name"], service["metadata"]["namespace"]) == ("istiod", "istio-system")
    assert {15012, 15013, 15014, 443} == {port["port"] for port in service["spec"]["ports"]}
    assert service["spec"]["selector"] == {"app": "istiod", "istio": "pilot"}
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert {"istio", "istio-sidecar-injector", "istio-installed-state"} == {
        item["metadata"]["name"] for item in of_kind("ConfigMap")
    }
    assert template["spec"]["containers"][0]["image"] == "mutua/pilot:1.2.3"


def test_the_least_rights() -> None:
    """A change here is a change of what a stolen token of the control plane can do."""
    cluster, to_be_bound = of_kind("ClusterRole")
    (own,) = of_kind("Role")

    def told(role: dict[str, Any]) -> set[str]:
        return {
            f"{'/'.join(filter(None, (group, resource)))}"
            f"{rule.get('resourceNames', '') and ' ' + ','.join(rule['resourceNames'])}: {' '.join(rule['verbs'])}"
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }

    watched = {f"{kind.group}/{kind.plural}".removeprefix("/") for kind in kinds.snapshot_inputs()}
    admission = "admissionregistration.k8s.io"
    stated = {f"{kind.group}/{kind.plural}/status: patch" for kind in kinds.policies()}
    assert told(cluster) == {f"{name}: get list watch" for name in watched} | stated | {
        "authentication.k8s.io/tokenreviews: create",
        "authorization.k8s.io/subjectaccessreviews: create",
        "configmaps: create",
        "configmaps istio-ca-root-cert,istio-ca-crl: get list watch patch",
        f"{admission}/mutatingwebhookconfigurations istio-sidecar-injector: get list watch patch",
        f"{admission}/validatingwebhookconfigurations istio-validator-istio-system: get list watch patch",
    }
    assert told(own) == {"secrets: get list watch create patch", "configmaps: get list watch create patch"}
    assert not any("secrets" in line or "*" in line for line in told(cluster))
    # Secrets of workloads' namespaces are readable where the namespace binds this role, and nowhere by itself.
    assert told(to_be_bound) == {"secrets: get list watch"}
    bound = {item["roleRef"]["name"] for kind in ("ClusterRoleBinding", "RoleBinding") for item in of_kind(kind)}
    assert to_be_bound["metadata"]["name"] == "istiod-credentials-istio-system" not in bound


def test_the_control_plane_is_never_injected() -> None:
    """Else it would wait for itself."""
    (deployment,) = of_kind("Deployment")

    assert deployment["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"


def test_webhooks_call_the_control_plane() -> None:
    """Both close when they fail: a pod without its sidecar, a policy that nobody read, must not come in."""
    (mutating,) = of_kind("MutatingWebhookConfiguration")
    (validating,) = of_kind("ValidatingWebhookConfiguration")

    for webhook in [*mutating["webhooks"], *validating["webhooks"]]:
        assert webhook["failurePolicy"] == "Fail"
        service = webhook["clientConfig"]["service"]
        assert (service["name"], service["namespace"], service["port"]) == ("istiod", "istio-system", 443)
        assert "caBundle" not in webhook["clientConfig"]
    judged = {plural for rule in validating["webhooks"][0]["rules"] for plural in rule["resources"]}
    assert {kind.plural for kind in kinds.ours()} == judged


def test_a_revision_stands_beside() -> None:
    """Its namespaced objects have names of their own, and its injector takes no `istio-injection` pods."""
    names = {
        (item["kind"], item["metadata"]["name"])
        for item in objects("revision=canary")
        if item["kind"] in ("Service", "Deployment", "ConfigMap", "MutatingWebhookConfiguration")
    }

    assert names == {
        ("Service", "istiod-canary"),
        ("Deployment", "istiod-canary"),
        ("ConfigMap", "istio-canary"),
        ("ConfigMap", "istio-sidecar-injector-canary"),
        ("ConfigMap", "istio-installed-state-canary"),
        ("MutatingWebhookConfiguration", "istio-sidecar-injector-canary"),
    }
    (mutating,) = of_kind("MutatingWebhookConfiguration", "revision=canary")
    assert len(mutating["webhooks"]) == 2
    assert mutating["webhooks"][0]["clientConfig"]["service"]["name"] == "istiod-canary"


@pytest.mark.parametrize(("profile", "count"), [("default", 2), ("demo", 2), ("minimal", 2), ("empty", 0)])
def test_profiles(profile: str, count: int) -> None:
    """Four of Istio's profiles."""
    assert count == len(manifests.components(installation(f"profile={profile}")))


def test_mesh_config_reaches_the_cluster() -> None:
    """As YAML under the key `mesh`, readable by the control plane."""
    settings = ("meshConfig.accessLogFile=/dev/stdout", "meshConfig.trustDomain=example.org")
    mesh = yaml.safe_load(next(item["data"]["mesh"] for item in of_kind("ConfigMap", *settings)))

    assert (
        mesh["accessLogFile"],
        mesh["trustDomain"],
        mesh["rootNamespace"],
    ) == ("/dev/stdout", "example.org", "istio-system")


def test_values_reach_the_injector() -> None:
    """What was set is what pods get."""
    settings = (
        "values.global.proxy.exemptBy=mark",
        "values.global.proxy.upstreamMark=7",
        "values.global.proxy.resources.requests.cpu=5m",
        "values.global.hub=example.org/mesh",
        "values.global.imagePullSecrets=[registry]",
    )
    told = injector_settings(settings)

    assert (told.exempt_by_mark, told.upstream_mark) == (True, 7)
    assert (told.resources.cpu_request, told.resources.memory_request) == ("5m", "128Mi")
    assert told.image == "example.org/mesh/proxyv2:1.2.3"
    assert told.image_pull_secrets == ("registry",)
    accounts = {item["metadata"]["name"]: item for item in of_kind("ServiceAccount", *settings)}
    assert accounts["istiod"]["imagePullSecrets"] == [{"name": "registry"}]


def test_the_containerfile_builds_the_images_that_are_installed() -> None:
    """A stage for each image, named like it, that starts a program which the package has, from files that are there."""
    root = Path(__file__).parents[4]
    lines = [line.split() for line in (root / "Containerfile").read_text().splitlines() if line]
    stages = {words[3]: words[1] for words in lines if words[0] == "FROM"}
    started = [json.loads(" ".join(words[1:]))[0] for words in lines if words[0] == "ENTRYPOINT"]
    copied = [name for words in lines if words[0] == "COPY" and "--from" not in words[1] for name in words[1:-1]]
    programs = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]

    pilot, proxy = installation().pilot, injector_settings(()).image
    assert [image.rpartition("/")[2].partition(":")[0] for image in (pilot, proxy)] == list(stages)[-2:]
    assert stages["proxyv2"] == "pilot"
    assert started == ["mutua-discovery", "mutua-agent"]
    assert set(started) | {"mutua-init"} <= set(programs)
    assert [name for name in copied if not (root / name).exists()] == []
    kept = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) <= kept | {path.name for path in root.glob("requirements*.lock")}


def test_what_was_asked_for_is_kept() -> None:
    """The stored state gives the same manifests again."""
    settings = ("profile=demo", "revision=canary", "meshConfig.accessLogFile=/x")
    state = next(item for item in of_kind("ConfigMap", *settings) if "state" in item["metadata"]["name"])

    again = values.installation(json.loads(state["data"]["settings"]), state["data"]["version"])

    assert manifests.components(installation(*settings)) == manifests.components(again)


def test_operator_files() -> None:
    """`spec` of an IstioOperator, over the profile that it names; `--set` on top."""
    document = yaml.safe_load(
        """
        apiVersion: install.istio.io/v1alpha1
        kind: IstioOperator
        spec:
          profile: demo
          meshConfig:
            certificates:
              - secretName: dns-cert
                dnsNames: [api.example.com]
          values:
            pilot:
              env:
                PILOT_CERT_PROVIDER: istiod
                SOME_SWITCH: true
        """
    )
    wanted = installation("values.pilot.replicaCount=2", operators=(values.operator_spec(document, "file"),))

    assert wanted.mesh_config["accessLogFile"] == "/dev/stdout"
    assert wanted.mesh_config["certificates"] == [{"secretName": "dns-cert", "dnsNames": ["api.example.com"]}]
    assert wanted.environment == {"PILOT_CERT_PROVIDER": "istiod", "SOME_SWITCH": "true"}
    assert wanted.replicas == 2


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a=1", {"a": 1}),
        ("a.b=true", {"a": {"b": True}}),
        ("a=", {"a": ""}),
        ("a=x=y", {"a": "x=y"}),
        (r"a.b\.c/d=x", {"a": {"b.c/d": "x"}}),
        ('a="1"', {"a": "1"}),
        ("a=[1, 2]", {"a": [1, 2]}),
    ],
)
def test_settings(text: str, tree: dict[str, Any]) -> None:
    """Paths with dots, values as YAML."""
    assert tree == values.parse_setting(text)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("profile=none", "profile 'none' does not exist"),
        ("novalue", "not of the form path=value"),
        ("a..b=1", "not of the form path=value"),
        ("a[0]=1", "single entries of a list"),
        ("a={", "not YAML"),
        ("values.pilot.replicaCount=many", "values.pilot.replicaCount: expected a whole number"),
        ("values.global.proxy.exemptBy=luck", "values.global.proxy.exemptBy: 'luck' is not known"),
        ("values.pilot.env=1", "values.pilot.env: expected a mapping"),
        ("components.pilot.enabled=maybe", "components.pilot.enabled: expected true or false"),
        ("values.global.hub={a: 1}", "values.global.hub: expected text"),
    ],
)
def test_wrong_settings_are_named(setting: str, named: str) -> None:
    """By path, with what was expected."""
    with pytest.raises(InvalidInputError, match=named.replace("[", r"\[")):
        installation(setting)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"kind": "Pod"}, "something else than an IstioOperator"),
        ({"kind": "IstioOperator", "apiVersion": "v2"}, "apiVersion 'v2' is not known"),
        ({"kind": "IstioOperator", "apiVersion": "install.istio.io/v1alpha1", "spec": []}, ""),
        ([], "something else"),
    ],
)
def test_wrong_operator_files_are_named(document: Any, named: str) -> None:
    """By file."""
    if not named:
        assert values.operator_spec(document, "file") == {}
        return
    with pytest.raises(InvalidInputError, match=named):
        values.operator_spec(document, "file")


def test_rights_for_an_external_authority_only_where_there_is_one() -> None:
    """And to approve for the signers that the settings name, no others."""
    spec = {
        "values": {"pilot": {"env": {"EXTERNAL_CA": "ISTIOD_RA_KUBERNETES_API", "K8S_SIGNER": "example.com/mesh"}}},
        "meshConfig": {"caCertificates": [{"pem": "x", "certSigners": ["example.com/other"]}, {"pem": "y"}]},
    }

    def rules(made: Installation) -> dict[str, Any]:
        everything = [item for part in manifests.components(made) for item in part.objects]
        role = next(item for item in everything if item["kind"] == "ClusterRole")
        return {
            name: rule for rule in role["rules"] if "certificates" in rule["apiGroups"][0] for name in rule["resources"]
        }

    assert rules(installation()) == {}
    found = rules(installation(operators=(spec,)))
    assert found["signers"]["resourceNames"] == ["example.com/mesh", "example.com/other"]
    assert found["signers"]["verbs"] == ["approve"]
    assert found["certificatesigningrequests/approval"]["verbs"] == ["update"]
    assert "update" not in found["certificatesigningrequests"]["verbs"]


def test_what_was_written_is_kept_for_an_upgrade() -> None:
    """Not what it came to: the defaults of a newer version may be others."""
    own = values.chosen([{"meshConfig": {"accessLogFile": "/dev/stdout"}}], ["values.pilot.replicaCount=2"])
    objects = [item for part in manifests.components(values.wanted(own, "1.2.3")) for item in part.objects]
    state = next(item for item in objects if item["metadata"]["name"] == "istio-installed-state")

    assert json.loads(state["data"]["chosen"]) == own
    assert values.wanted(json.loads(state["data"]["chosen"]), "1.2.3") == values.wanted(own, "1.2.3")
