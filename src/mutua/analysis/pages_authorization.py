"""Pages of the codes about AuthorizationPolicy."""

from typing import Final

from mutua.analysis.pages_page import Page

PAGES: Final = (
    Page(
        "MUT0006",
        "A principal, namespace or service account in an AuthorizationPolicy is that of no pod. The message names the "
        "one that comes nearest.",
        """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: backend, namespace: secure-apps}
spec:
  selector: {matchLabels: {app: backend}}
  rules:
  - from: [{source: {principals: ["cluster.local/ns/secure-apps/sa/frontend"]}}]
""",
        "If the pods of the frontend run as the service account `default`, the rule never matches them: an ALLOW "
        "policy "
        "answers 403 `RBAC: access denied`, a DENY policy lets them through.",
        "Write the identity that the pods have (`mutua proxy-config secret POD` shows it), or give them the service "
        "account that the policy names: `spec.serviceAccountName` in the Deployment's template.",
    ),
    Page(
        "MUT0007",
        "A rule asks who the client is, on a port that also takes plaintext. A plaintext client has no identity: "
        "positive fields (`principals`, `namespaces`, `serviceAccounts`) never match it, negative ones always do.",
        """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-guests, namespace: secure-apps}
spec:
  action: DENY
  rules:
  - from: [{source: {namespaces: [guests]}}]
""",
        "While the workload is PERMISSIVE, a pod of `guests` without a sidecar gets through: nobody knows where "
        "it comes "
        "from. With ALLOW the same client is refused, though it may have the right.",
        "Make the workload STRICT by a PeerAuthentication; identities are then proven for every connection.",
    ),
    Page(
        "MUT0008",
        "A rule asks about HTTP (methods, paths, hosts, headers, end-user tokens) on a port that is read as TCP, where "
        "there are no requests to look at.",
        """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: db, namespace: secure-apps}
spec:
  selector: {matchLabels: {app: db}}
  action: DENY
  rules:
  - to: [{operation: {methods: [POST]}}]
""",
        "On a TCP port an ALLOW rule with such a field never matches, so it allows nothing. A DENY rule loses the "
        "field "
        "and gets wider: this one denies every connection.",
        "If the port speaks HTTP, name it `http-...` or set `appProtocol: http`. If not, use `ports`, `principals`, "
        "`namespaces` or `ipBlocks`, or limit the rule to the HTTP ports by `ports`.",
    ),
    Page(
        "MUT0009",
        "An ALLOW policy matches no request that could come. Where any ALLOW policy applies, what none of them "
        "allows is "
        "denied, so the policy denies everything.",
        """
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: secure-apps}
spec: {selector: {app: backend}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: backend, namespace: secure-apps}
spec:
  selector: {matchLabels: {app: backend}}
  rules:
  - to: [{operation: {ports: ["80"]}}]
""",
        "`ports` counts the workload's ports, here 8080; a request never arrives on 80. The same happens with a "
        "selector "
        "and no rules, and where no rule names a client that exists.",
        "Write the workload's ports and the clients' real identities. To deny everything on purpose, use an empty "
        "`spec: {}`, or a DENY policy with the rule `{}`, which says so.",
    ),
    Page(
        "MUT0010",
        "A rule has only `from`, and the next one only `to` or `when`. Items of `rules` are alternatives: each one "
        "alone is enough. Probably one rule was meant, whose parts must all match.",
        """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: backend, namespace: secure-apps}
spec:
  rules:
  - from: [{source: {namespaces: [secure-apps]}}]
  - to: [{operation: {methods: [GET]}}]
""",
        "This allows every request of the namespace `secure-apps`, and every GET of anybody. Without the second "
        "dash it "
        "would allow GET from `secure-apps` only.",
        "Take the dash before `to` out, so that both stand in one item. If the alternative is meant, put the two rules "
        "into policies of their own.",
    ),
)
