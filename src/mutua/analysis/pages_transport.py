"""Pages of the codes about mutual TLS: PeerAuthentication, DestinationRule, injection, certificates."""

from typing import Final

from mutua.analysis.pages_page import Page

PAGES: Final = (
    Page(
        "MUT0001",
        "Two PeerAuthentications of the same level cover the same workloads. The oldest one counts; the other is "
        "ignored, whatever it says.",
        """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict-mtls, namespace: secure-apps}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: secure-apps}
spec: {mtls: {mode: PERMISSIVE}}
""",
        "Applied in this order, `default` changes nothing: the namespace stays STRICT. The levels are the mesh (root "
        "namespace), the namespace (no selector) and the workload (selector); a name does not matter.",
        "Edit the older object, or delete it. `kubectl get pa -n NAMESPACE --sort-by=.metadata.creationTimestamp` "
        "shows "
        "which one is older. Keep one object per level, and change that one.",
    ),
    Page(
        "MUT0002",
        "A PeerAuthentication in the root namespace has a selector. In the root namespace a policy is the whole "
        "mesh's, "
        "and one with a selector is nobody's: it is ignored.",
        """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: backend, namespace: istio-system}
spec:
  selector: {matchLabels: {app: backend}}
  mtls: {mode: STRICT}
""",
        "No workload becomes STRICT by this, in any namespace.",
        "Move the object to the namespace of the workload, or take the selector out if the whole mesh is meant.",
    ),
    Page(
        "MUT0003",
        "The selector of a policy matches no workload of its namespace, so the policy does nothing.",
        """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: backend, namespace: secure-apps}
spec:
  selector: {matchLabels: {app: back-end}}
  mtls: {mode: STRICT}
""",
        "If the pods are labelled `app: backend`, they stay as they are. The message names the labels that come "
        "nearest.",
        "`kubectl get pods -n NAMESPACE --show-labels` shows what there is. Write the labels of the pods, not those of "
        "the Service or the Deployment.",
    ),
    Page(
        "MUT0004",
        "A key of `portLevelMtls` is a port of a Service, and not of the workload. The keys count the ports on "
        "which the "
        "containers listen (the Service's `targetPort`), so the entry has no effect.",
        """
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: secure-apps}
spec: {selector: {app: backend}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: backend, namespace: secure-apps}
spec:
  selector: {matchLabels: {app: backend}}
  mtls: {mode: STRICT}
  portLevelMtls: {80: {mode: DISABLE}}
""",
        "Nothing listens on 80 in the pod; port 8080 stays STRICT.",
        "Write the workload's port, here 8080.",
    ),
    Page(
        "MUT0005",
        "A DestinationRule makes clients dial in a way that the servers refuse. The message names the clients, the "
        "server and port, and the PeerAuthentication that decides there.",
        """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: backend, namespace: secure-apps}
spec:
  host: backend.secure-apps.svc.cluster.local
  trafficPolicy: {tls: {mode: DISABLE}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict-mtls, namespace: secure-apps}
spec: {mtls: {mode: STRICT}}
""",
        "The client's sidecar sends plaintext, the server's accepts mutual TLS only: 503, `upstream connect "
        "error`. The "
        "other way round, ISTIO_MUTUAL to a port that is DISABLE, fails in the same way.",
        "Leave `tls` out of the rule: sidecars then use mutual TLS wherever it is taken. Mind that a port with "
        "settings "
        "of its own in `portLevelSettings` inherits nothing from the host's.",
    ),
    Page(
        "MUT0011",
        "A DestinationRule for many hosts demands ISTIO_MUTUAL, and some of them have endpoints without a sidecar. "
        "Those cannot answer mutual TLS; the message lists them.",
        """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: default, namespace: istio-system}
spec:
  host: "*.local"
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
""",
        "Requests to the listed hosts, the Kubernetes API among them, fail with 503 from every client that has a "
        "sidecar.",
        "Delete the rule: sidecars use mutual TLS by themselves where the other side has one. If it must stay, add a "
        "DestinationRule with `tls: {mode: DISABLE}` for each listed host.",
    ),
    Page(
        "MUT0012",
        "A pod in a namespace that is labelled for injection has no sidecar because it says so itself: by label or "
        "annotation, or since it uses the node's network.",
        """
apiVersion: v1
kind: Pod
metadata:
  name: test-pod
  namespace: secure-apps
  labels: {sidecar.istio.io/inject: "false"}
spec: {containers: [{name: curl, image: curlimages/curl}]}
""",
        "The pod has no certificate. Workloads that are STRICT refuse it, and no AuthorizationPolicy knows who it is.",
        "Nothing, if this is meant. Otherwise take the label or annotation out and make the pod anew.",
    ),
    Page(
        "MUT0013",
        "A port on which the server speaks first has no protocol in its name. The sidecar waits for the client's first "
        "bytes to find the protocol out, while the client waits for the server.",
        """
apiVersion: v1
kind: Service
metadata: {name: mail, namespace: secure-apps}
spec: {selector: {app: mail}, ports: [{name: mail, port: 587}]}
""",
        "Connections open and nothing happens until the detection gives up, or a client does.",
        "Name the port `tcp-...`, or set `appProtocol: tcp`.",
    ),
    Page(
        "MUT0014",
        "An admission webhook is answered by a workload whose port is STRICT. The API server calls it, has no "
        "certificate of the mesh, and is refused.",
        """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: policy}
webhooks:
- name: policy.example.com
  clientConfig: {service: {namespace: policy, name: policy, port: 443}}
""",
        "With `failurePolicy: Fail`, whatever the webhook judges can no longer be created or changed.",
        "Let the port take plaintext (the webhook has TLS of its own): a PeerAuthentication with a selector and "
        "`portLevelMtls: {PORT: {mode: PERMISSIVE}}`, or leave the port out of capture by the annotation "
        "`traffic.sidecar.istio.io/excludeInboundPorts`.",
    ),
    Page(
        "MUT0015",
        "Pods ask to be scraped for metrics on a port that is STRICT, and there is a scraper without a sidecar.",
        """
apiVersion: v1
kind: Pod
metadata:
  name: backend
  namespace: secure-apps
  annotations: {prometheus.io/scrape: "true", prometheus.io/port: "8080"}
spec: {containers: [{name: backend, image: backend}]}
""",
        "Scrapes of the port are refused, and dashboards go empty when STRICT is turned on.",
        "Let this one port take plaintext by `portLevelMtls: {8080: {mode: PERMISSIVE}}`, or give the scraper a "
        "sidecar.",
    ),
    Page(
        "MUT0016",
        "A certificate in a secret has expired, or soon will. `cacerts` holds the mesh's own authority: when it "
        "expires, "
        "every workload loses its identity.",
        """
apiVersion: v1
kind: Secret
metadata: {name: cacerts, namespace: istio-system}
data: {ca-cert.pem: "...", ca-key.pem: "...", root-cert.pem: "...", cert-chain.pem: "..."}
""",
        "An expired certificate is refused by every peer. It is an error once it has expired, a warning within "
        "the last "
        "30 days (for certificates that live shorter: within the last fifth of their life).",
        "Renew the certificate and replace the secret. For `cacerts`, bring the new root to all workloads before "
        "the old "
        "one ends.",
    ),
    Page(
        "MUT0017",
        'A PeerAuthentication carries the annotation `istio.io/dry-run: "true"`. It refuses nobody, changes no mode '
        "and overrides no other policy; what it would refuse is counted and told.",
        """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: strict-mtls
  namespace: secure-apps
  annotations: {istio.io/dry-run: "true"}
spec: {mtls: {mode: STRICT}}
""",
        "Clients without mutual TLS go on as before. The control plane's log says `dry_run=` for each that the policy "
        "would refuse. It is judged as if it decided its level (mesh, namespace or workload); the message says if an "
        "older policy would keep it from that.",
        "`mutua plaintext -n NAMESPACE` shows the connections that would have been refused. When there are none left, "
        "take the annotation away, and the policy is enforced.",
    ),
    Page(
        "MUT0018",
        "A probe of the kubelet asks a port that is STRICT. The kubelet has no certificate, so the probe fails and the "
        "pod is not ready, or is restarted again and again.",
        """
apiVersion: v1
kind: Pod
metadata:
  name: backend
  namespace: secure-apps
  annotations: {sidecar.istio.io/rewriteAppHTTPProbers: "false"}
spec:
  containers:
  - name: backend
    image: backend
    readinessProbe: {httpGet: {port: 8080, path: /ready}}
""",
        "Probes of injected pods are asked by the sidecar instead, which the kubelet can reach. This one is not: the "
        "pod says so by an annotation, or was made before the sidecar could do it. A probe over TCP is no problem, "
        "but says little: the sidecar takes the connection.",
        'Take the annotation `sidecar.istio.io/rewriteAppHTTPProbers: "false"` away and restart the pod; or let the '
        "port take plaintext by `portLevelMtls: {8080: {mode: PERMISSIVE}}`.",
    ),
)
