"""Which pods get a sidecar, and which webhook the API server calls for them."""

from typing import Any

import pytest

from fakes.injection_vectors import rows, webhook_configurations
from mutua.injection import decide, selectors
from mutua.injection.settings import InjectorSettings
from mutua.installation import values, webhooks


@pytest.mark.parametrize("row", rows("decision"))
def test_decision(row: dict[str, Any]) -> None:
    """Label, annotation, selectors, policy and place decide as Istio decides."""
    config = row["config"]
    settings = InjectorSettings(
        inject_by_default=config["policy"] == "enabled",
        always_inject=tuple(config.get("alwaysInjectSelector", ())),
        never_inject=tuple(config.get("neverInjectSelector", ())),
    )

    decision = decide.should_inject(row["pod"], row["pod"]["metadata"]["namespace"], settings)

    assert row["expect"]["inject"] == decision.inject, decision.reason


@pytest.mark.parametrize("row", rows("webhook-selection"))
def test_webhook_selection(row: dict[str, Any]) -> None:
    """Each configuration says in words why it does or does not inject."""
    configurations = webhook_configurations()

    told = [
        selectors.explain(configuration, row["namespaceLabels"], row["podLabels"])._asdict()
        for configuration in sorted(configurations.values(), key=lambda entry: entry["name"])
    ]

    assert row["expect"] == told


@pytest.mark.parametrize("row", rows("webhook-matrix"))
def test_webhook_matrix(row: dict[str, Any]) -> None:
    """Our installed webhook configuration is called for exactly the pods that Istio's is called for."""
    settings = (
        f"revision={row['revision']}",
        f"values.sidecarInjectorWebhook.enableNamespacesByDefault={str(row['enableNamespacesByDefault']).lower()}",
    )
    installation = values.installation(values.resolve(settings=settings), "1.0")
    namespace_labels = {"kubernetes.io/metadata.name": "some-namespace"} | row["namespaceLabels"]

    called = selectors.calling(webhooks.injector(installation), namespace_labels, row["podLabels"])

    assert row["expect"]["webhooks"] == list(called)


@pytest.mark.parametrize(
    ("pod", "namespace", "reason"),
    [
        ({"spec": {"hostNetwork": True}}, "web", "node's network"),
        ({}, "kube-system", "belongs to the cluster itself"),
        ({"metadata": {"labels": {"sidecar.istio.io/inject": "maybe"}}}, "web", "neither true nor false"),
        ({"metadata": {"annotations": {"sidecar.istio.io/inject": "No"}}}, "web", "annotation"),
    ],
)
def test_refusals_say_why(pod: dict[str, Any], namespace: str, reason: str) -> None:
    """A pod without a sidecar is never a riddle."""
    decision = decide.should_inject(pod, namespace, InjectorSettings())

    assert not decision.inject
    assert reason in decision.reason


def test_a_status_annotation_alone_is_no_sidecar() -> None:
    """Copying our annotation does not keep a pod out of the mesh."""
    pod = {"metadata": {"annotations": {decide.STATUS: "{}"}}, "spec": {"containers": [{"name": "app"}]}}

    assert decide.should_inject(pod, "web", InjectorSettings()).inject
