"""kubectl with every kind that runs, and a look at every kind that is served."""

import base64
import json
import urllib.request
from typing import Any

import pytest
from client_cluster import Kubectl, eventually, proves
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

pytestmark = pytest.mark.linux

CLIENT = "kubectl 1.32 and 1.34"
ONE_OF_EACH = """
apiVersion: v1
kind: ReplicationController
metadata: {name: one}
spec: {replicas: 0, selector: {app: none}, template: {metadata: {labels: {app: none}}, spec: {containers: [{name: c, image: nginx}]}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: one}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: one}
spec: {limits: [{type: Container, max: {cpu: "2"}}]}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: one}
spec: {hard: {pods: "100"}}
---
apiVersion: v1
kind: Secret
metadata: {name: one}
stringData: {password: hidden}
---
apiVersion: v1
kind: Service
metadata: {name: one}
spec: {selector: {app: one}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: one}
spec: {podSelector: {}, policyTypes: [Ingress]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: one}
spec: {rules: [{host: a.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: one, port: {number: 80}}}}]}}]}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: one}
spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: one}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: one}
spec: {minAvailable: 1, selector: {matchLabels: {app: one}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: one}
spec: {selector: {matchLabels: {app: one}}, template: {metadata: {labels: {app: one}}, spec: {containers: [{name: c, image: nginx}]}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: one}
spec: {replicas: 0, serviceName: one, selector: {matchLabels: {app: two}}, template: {metadata: {labels: {app: two}}, spec: {containers: [{name: c, image: nginx}]}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: one}
spec: {selector: {matchLabels: {app: three}}, template: {metadata: {labels: {app: three}}, spec: {containers: [{name: c, image: nginx}]}}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: one}
spec: {schedule: "0 0 1 1 *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: busybox, command: ["true"]}]}}}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: one}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: busybox, command: ["true"]}]}}}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: one}
spec: {holderIdentity: me}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: one}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: one}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: one}
subjects: [{kind: User, name: jane}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: kinds-one}
webhooks: []
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: kinds-one}
webhooks: []
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: kinds-one}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [kinds.example.com], apiVersions: [v1], operations: [CREATE], resources: [things]}]
  validations: [{expression: "object.metadata.name != 'two'"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: kinds-one}
spec: {policyName: kinds-one, validationActions: [Deny]}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.kinds.example.com}
spec:
  group: kinds.example.com
  scope: Namespaced
  names: {plural: things, singular: thing, kind: Thing}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
"""  # noqa: E501 - one line for each
NOT_DESCRIBED_WHEN_NAMED = {"events", "events.events.k8s.io"}  # those of kubectl's own making come and go


@proves(CLIENT, "get and describe of every kind that is served; a ValidatingAdmissionPolicy")
def test_every_kind(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=ONE_OF_EACH)
    kubectl("wait", "--for=condition=available", "deploy/one", "--timeout=30s")
    kubectl("wait", "--for=condition=complete", "job/one", "--timeout=30s")
    kubectl("wait", "--for=condition=established", "crd/things.kinds.example.com", "--timeout=30s")
    kubectl("apply", "-f", "-", stdin='{"apiVersion":"kinds.example.com/v1","kind":"Thing","metadata":{"name":"one"}}')
    two = {"apiVersion": "kinds.example.com/v1", "kind": "Thing", "metadata": {"name": "two"}}
    assert "denied request" in kubectl.refused("create", "-f", "-", stdin=json.dumps(two))
    eventually(lambda: kubectl("get", "pods.metrics.k8s.io", "-o", "name"))
    apply(kubectl, certificate_request("kinds-one"))
    empty = []
    for scope in ("true", "false"):
        for kind in kubectl("api-resources", "--verbs=list", f"--namespaced={scope}", "-o", "name").split():
            if kind in FROM_OTHER_TESTS:
                continue
            names = kubectl("get", kind, "-o", "name").split()
            if not names:
                empty.append(kind)
                continue
            header = kubectl("get", kind).split("\n")[0]
            assert header.startswith(("NAME", "LAST SEEN")), header
            if kind in NOT_DESCRIBED_WHEN_NAMED:
                continue
            name = names[0].partition("/")[2]
            described = kubectl("describe", kind, name)
            assert described.startswith("Name: "), described
            assert name in described.split("\n")[0]
    assert not empty
    assert "Restart Count:" in kubectl("describe", "pods", "-l", "app=one")
    assert "Scaled up replica set" in kubectl("describe", "deployment", "one")
    assert "hidden" not in kubectl("describe", "secret", "one")
    assert "Used By:" in kubectl("describe", "pvc", "one")
    node = kubectl("describe", "node", "local")
    assert "Allocated resources:" in node
    assert "HolderIdentity:  local" in node


FROM_OTHER_TESTS = {"greetings.operator.example.com", "orders.shop.example.com"}


def certificate_request(name: str) -> dict[str, Any]:
    """A CertificateSigningRequest that nobody signs."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jane")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    encoded = base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {"request": encoded, "signerName": "example.com/nobody", "usages": ["client auth"]},
    }


def apply(kubectl: Kubectl, manifest: dict[str, Any]) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps(manifest))


def workload(kind: str, name: str, script: str, **spec: Any) -> dict[str, Any]:
    """A workload of apps/v1 with one container."""
    container = {"name": "main", "image": "busybox", "command": ["sh", "-c", script]}
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{**container, **spec.pop("container", {})}]},
    }
    wanted = {"selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": wanted}


@proves(CLIENT, "StatefulSet with a claim for each pod and headless names; DaemonSet; rollout and undo of both")
def test_sets(kubectl: Kubectl) -> None:
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    service = {"spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 80}]}}
    apply(kubectl, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"}, **service})
    mounted = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    script = "test -e /data/who || hostname > /data/who; exec sleep infinity"
    stateful = {"serviceName": "db", "replicas": 2, "volumeClaimTemplates": [claim], "container": mounted}
    apply(kubectl, workload("StatefulSet", "db", script, **stateful))
    apply(kubectl, workload("DaemonSet", "each", "exec sleep infinity"))
    for name in ("statefulset/db", "daemonset/each"):
        kubectl("rollout", "status", name, "--timeout=30s")
    address = kubectl.json("get", "pod", "db-1")["status"]["podIP"]
    found = kubectl("exec", "db-0", "--", "getent", "hosts", f"db-1.db.{kubectl.namespace}.svc.cluster.local")
    assert found.split()[0] == address
    for name in ("statefulset/db", "daemonset/each"):
        kubectl("set", "env", name, "ROUND=2")
        kubectl("rollout", "status", name, "--timeout=60s")
        assert len(kubectl("rollout", "history", name).strip().splitlines()) == 4
        kubectl("rollout", "undo", name)
        kubectl("rollout", "status", name, "--timeout=60s")
    assert kubectl("exec", "db-1", "--", "cat", "/data/who") == "db-1\n"
    kubectl("scale", "statefulset/db", "--replicas=1")
    eventually(lambda: kubectl("get", "pods", "-l", "app=db", "-o", "name").split() == ["pod/db-0"])
    kubectl("delete", "statefulset/db", "daemonset/each", "--cascade=foreground", "--timeout=30s")
    assert set(kubectl("get", "pvc", "-o", "name").split()) >= {f"persistentvolumeclaim/data-db-{n}" for n in (0, 1)}


@proves(CLIENT, "Job, indexed and with a native sidecar; CronJob, and a job from it by hand")
def test_jobs(kubectl: Kubectl) -> None:
    side = {"name": "side", "image": "busybox", "restartPolicy": "Always", "command": ["sleep", "infinity"]}
    main = {"name": "main", "image": "busybox", "command": ["sh", "-c", "echo number $JOB_COMPLETION_INDEX"]}
    pod = {"restartPolicy": "Never", "initContainers": [side], "containers": [main], "terminationGracePeriodSeconds": 0}
    job = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "template": {"spec": pod}}
    apply(kubectl, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "two"}, "spec": job})
    kubectl("wait", "--for=condition=complete", "job/two", "--timeout=30s")
    logs = kubectl("logs", "-l", "job-name=two", "-c", "main").splitlines()
    assert sorted(logs) == ["number 0", "number 1"]
    kubectl("create", "cronjob", "yearly", "--image=busybox", "--schedule=0 0 1 1 *", "--", "echo", "a year")
    kubectl("create", "job", "early", "--from=cronjob/yearly")
    kubectl("wait", "--for=condition=complete", "job/early", "--timeout=30s")
    assert kubectl("logs", "job/early") == "a year\n"
    kubectl("create", "job", "bad", "--image=busybox", "--", "false")
    kubectl("patch", "job", "bad", "-p", '{"spec":{"backoffLimit":0}}')
    kubectl("wait", "--for=condition=failed", "job/bad", "--timeout=30s")
    assert "BackoffLimitExceeded" in kubectl("describe", "job", "bad")


@proves(CLIENT, "native sidecars and init containers: order, status, probes; a pod's environment and volumes")
def test_pods_of_many_parts(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=colour=green")
    shared = [{"name": "shared", "mountPath": "/shared"}]
    side = {
        "name": "side",
        "image": "busybox",
        "restartPolicy": "Always",
        "command": ["sh", "-c", "sleep 0.3; touch /shared/ready; exec sleep infinity"],
        "startupProbe": {"exec": {"command": ["test", "-e", "/shared/ready"]}, "periodSeconds": 1},
        "volumeMounts": shared,
    }
    init = {
        "name": "init",
        "image": "busybox",
        "command": ["sh", "-c", "test -e /shared/ready && echo in order > /shared/said"],
        "volumeMounts": shared,
    }
    main = {
        "name": "main",
        "image": "busybox",
        "command": ["sh", "-c", "cat /shared/said; exec sleep infinity"],
        "env": [
            {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
            {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "volumeMounts": [
            *shared,
            {"name": "settings", "mountPath": "/settings"},
            {"name": "about", "mountPath": "/about"},
        ],
    }
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    volumes = [
        {"name": "shared", "emptyDir": {}},
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "about", "downwardAPI": {"items": items}},
    ]
    spec = {
        "terminationGracePeriodSeconds": 0,
        "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["nearby"]}],
        "initContainers": [side, init],
        "containers": [main],
        "volumes": volumes,
    }
    metadata = {"name": "parts", "labels": {"app": "parts"}}
    apply(kubectl, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    kubectl("wait", "--for=condition=ready", "pod/parts", "--timeout=30s")
    assert kubectl("get", "pod", "parts", "--no-headers").split()[1:3] == ["2/2", "Running"]
    assert kubectl("logs", "parts", "-c", "main") == "in order\n"
    assert kubectl("exec", "parts", "-c", "main", "--", "sh", "-c", "echo $COLOUR $ME") == "green parts\n"
    assert kubectl("exec", "parts", "-c", "main", "--", "cat", "/about/labels") == 'app="parts"'
    assert kubectl("exec", "parts", "-c", "main", "--", "getent", "hosts", "nearby").split()[0] == "127.0.0.1"
    kubectl("patch", "configmap", "settings", "--type=merge", "-p", '{"data":{"colour":"red"}}')
    eventually(lambda: kubectl("exec", "parts", "-c", "main", "--", "cat", "/settings/colour") == "red")
    kubectl("label", "pod", "parts", "more=yes")
    eventually(lambda: 'more="yes"' in kubectl("exec", "parts", "-c", "main", "--", "cat", "/about/labels"))


@proves(CLIENT, "Services: ClusterIP by name, headless, NodePort on this machine's loopback, ExternalName, named ports")
def test_services(kubectl: Kubectl) -> None:
    port = {"name": "web", "containerPort": 80}
    container = {"image": "nginx", "command": None, "ports": [port]}
    apply(kubectl, workload("Deployment", "web", "", replicas=2, container=container))
    kubectl("rollout", "status", "deploy/web", "--timeout=30s")
    kubectl("expose", "deploy", "web", "--port=8080", "--target-port=web", "--type=NodePort")
    kubectl("expose", "deploy", "web", "--name=bare", "--port=80", "--cluster-ip=None")
    kubectl(
        "create", "service", "externalname", "elsewhere", f"--external-name=web.{kubectl.namespace}.svc.cluster.local"
    )
    kubectl("run", "ask", "--image=busybox", "--command", "--", "sleep", "infinity")
    kubectl("wait", "--for=condition=ready", "pod/ask", "--timeout=30s")
    found = kubectl.json("get", "service", "web")
    eventually(
        lambda: len(kubectl("get", "endpoints", "web", "-o", "jsonpath={.subsets[*].addresses}").split("ip")) == 3
    )
    for name in ("web", "elsewhere", f"web.{kubectl.namespace}"):
        assert "nginx" in kubectl("exec", "ask", "--", "curl", "-sS", f"http://{name}:8080").lower()
    addresses = kubectl("exec", "ask", "--", "getent", "ahostsv4", "bare").split()
    pods = kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}").split()
    assert set(pods) <= set(addresses)
    node_port = found["spec"]["ports"][0]["nodePort"]
    with urllib.request.urlopen(f"http://127.0.0.1:{node_port}", timeout=10) as answer:
        assert answer.status == 200
    assert f"{node_port}/TCP" in kubectl("describe", "service", "web")
    kubectl("delete", "pod", "ask", "--now")
