"""Kubernetes' defaults, as clients and controllers see them."""

from typing import Any

import pytest

from localcluster.apiserver import defaults, kinds

Object = dict[str, Any]


def test_a_pod_says_how_it_will_be_run() -> None:
    found = defaults.apply(
        kinds.POD,
        {
            "metadata": {"name": "p"},
            "spec": {
                "serviceAccountName": "web",
                "containers": [
                    {
                        "name": "main",
                        "image": "nginx",
                        "ports": [{"containerPort": 80}],
                        "resources": {"limits": {"cpu": "1"}},
                        "readinessProbe": {"httpGet": {"port": 80}},
                    }
                ],
                "volumes": [{"name": "scratch"}, {"name": "config", "configMap": {"name": "c"}}],
            },
        },
    )

    assert found["spec"] == {
        "serviceAccountName": "web",
        "serviceAccount": "web",
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 30,
        "securityContext": {},
        "enableServiceLinks": True,
        "containers": [
            {
                "name": "main",
                "image": "nginx",
                "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "readinessProbe": {
                    "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                    "timeoutSeconds": 1,
                    "periodSeconds": 10,
                    "successThreshold": 1,
                    "failureThreshold": 3,
                },
            }
        ],
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "config", "configMap": {"name": "c", "defaultMode": 0o644}},
        ],
    }


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("registry:5000/nginx", "Always"),
        ("registry:5000/nginx:1.27", "IfNotPresent"),
        ("nginx@sha256:0123", "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    pod = {"spec": {"containers": [{"name": "main", "image": image}]}}

    assert defaults.apply(kinds.POD, pod)["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_a_deployment_rolls_by_a_quarter() -> None:
    found = defaults.apply(kinds.DEPLOYMENT, {"spec": {"template": {"spec": {"containers": []}}}})["spec"]

    assert found["replicas"] == 1
    assert found["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    assert (found["revisionHistoryLimit"], found["progressDeadlineSeconds"]) == (10, 600)
    assert found["template"]["spec"]["restartPolicy"] == "Always"


def test_a_service_targets_the_port_it_offers() -> None:
    found = defaults.apply(kinds.SERVICE, {"spec": {"ports": [{"port": 80}, {"port": 81, "targetPort": "http"}]}})

    assert found["spec"] == {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "ports": [
            {"port": 80, "protocol": "TCP", "targetPort": 80},
            {"port": 81, "protocol": "TCP", "targetPort": "http"},
        ],
    }


def test_what_was_given_stays_and_the_given_object_is_not_touched() -> None:
    given: Object = {"spec": {"replicas": 0, "template": {"spec": {"restartPolicy": "Always", "containers": []}}}}

    assert defaults.apply(kinds.DEPLOYMENT, given)["spec"]["replicas"] == 0
    assert "strategy" not in given["spec"]


@pytest.mark.parametrize("kind", kinds.BUILTIN, ids=lambda kind: kind.resource)
def test_defaults_are_stable_for_every_kind(kind: kinds.KindInfo) -> None:
    once = defaults.apply(kind, {"metadata": {"name": "x"}})

    assert defaults.apply(kind, once) == once
