"""Hosts outside the mesh, and TLS towards them."""

from typing import Final

from mutua.analysis.pages_page import Page

PAGES: Final = (
    Page(
        "MUT0019",
        "A DestinationRule names a secret that no sidecar gets, or that it cannot use. Its host is not dialled.",
        """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api, namespace: secure-apps}
spec:
  host: api.example.com
  trafficPolicy: {tls: {mode: MUTUAL, credentialName: api-credential}}
""",
        "Requests get 503: a missing certificate never means plaintext. Sidecars get secrets of their own "
        "namespace, for "
        "rules with a `workloadSelector`, if the workload's service account may read them and the namespace lets the "
        "control plane read them. Whether the two may is not asked here; the control plane's log says so.",
        "Add `workloadSelector` to the rule, or create the secret in the namespace of the clients: `tls.crt`, "
        "`tls.key` "
        "and the server's authorities in `ca.crt`. docs/policy.md, `Certificates from secrets`, has the roles.",
    ),
    Page(
        "MUT0020",
        "A ServiceEntry names a host or an address that belongs to a Service or to an older entry of another "
        "namespace.",
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: old-api, namespace: plain}
spec: {hosts: [shared.example.com], ports: [{number: 80, name: http, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shared-api, namespace: secure-apps}
spec: {hosts: [shared.example.com], ports: [{number: 80, name: http, protocol: HTTP}]}
""",
        "A namespace cannot take over what another one owns: the entry counts for clients of its own namespace "
        "alone. For "
        "a host of a Service in the same namespace it does not count at all.",
        'Choose a host or an address that nobody has; or say `exportTo: ["."]`, if the entry is meant for its own '
        "namespace.",
    ),
    Page(
        "MUT0021",
        "A DestinationRule makes TLS of what is TLS already: the port's protocol says that applications encrypt "
        "themselves.",
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner, namespace: secure-apps}
spec:
  hosts: [partner.example.com]
  resolution: DNS
  ports: [{number: 443, name: https, protocol: HTTPS}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: partner, namespace: secure-apps}
spec: {host: partner.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}
""",
        "The server gets a TLS handshake inside a TLS connection, and closes it.",
        "Leave `tls` out of the rule; or let applications send plain HTTP to a port of protocol HTTP, and let "
        "the sidecar "
        "make TLS of it (`targetPort: 443`).",
    ),
    Page(
        "MUT0022",
        "A port of a ServiceEntry is read as HTTP and leads to 443 or 8443, and no rule makes TLS of its requests.",
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: payments, namespace: secure-apps}
spec:
  hosts: [payments.example.com]
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
""",
        "Requests leave in plaintext; a server that speaks TLS there answers 400, or not at all.",
        "Add a DestinationRule for the host with `trafficPolicy: {tls: {mode: SIMPLE}}`. If applications speak "
        "TLS to the "
        "port themselves, its protocol is TLS or HTTPS.",
    ),
    Page(
        "MUT0023",
        "A DestinationRule makes TLS towards a server whose identity is not looked at, or not wholly.",
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: broker, namespace: secure-apps}
spec:
  hosts: [broker.example.com]
  resolution: DNS
  ports: [{number: 5671, name: amqp, protocol: TCP}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: broker, namespace: secure-apps}
spec: {host: broker.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}
""",
        "With `insecureSkipVerify` anybody who gets in between can answer. Connections that are no HTTP name no "
        "host, so "
        "without `subjectAltNames` any certificate of the authorities is believed.",
        "Say in `subjectAltNames` (of the rule or of the ServiceEntry) which names may answer, in `caCertificates` who "
        "signs for them, and take `insecureSkipVerify` away.",
    ),
)
