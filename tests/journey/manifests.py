"""Manifests of the journey, as its user would write them."""

NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata:
  name: secure-apps
  labels:
    istio-injection: enabled
"""


def application(name: str, account: str = "") -> str:
    """A deployment of two web servers and its service."""
    line = f"      serviceAccountName: {account}\n" if account else ""
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: secure-apps
spec:
  replicas: 2
  selector:
    matchLabels:
      app: {name}
  template:
    metadata:
      labels:
        app: {name}
    spec:
{line}      containers:
        - name: {name}
          image: nginx
          ports:
            - containerPort: 80
---
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: secure-apps
spec:
  selector:
    app: {name}
  ports:
    - port: 80
      targetPort: 80
"""


def peer_authentication(mode: str, name: str = "strict-mtls") -> str:
    """A mode for the whole namespace."""
    return f"""
apiVersion: security.istio.io/v1beta1
kind: PeerAuthentication
metadata:
  name: {name}
  namespace: secure-apps
spec:
  mtls:
    mode: {mode}
"""


DESTINATION_RULE = """
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: mtls-destination
  namespace: secure-apps
spec:
  host: "*.secure-apps.svc.cluster.local"
  trafficPolicy:
    tls:
      mode: ISTIO_MUTUAL
"""

BACKEND_ACCESS = """
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata:
  name: backend-access
  namespace: secure-apps
spec:
  selector:
    matchLabels:
      app: backend
  action: ALLOW
  rules:
    - from:
        - source:
            principals:
              - "cluster.local/ns/secure-apps/sa/frontend"
      to:
        - operation:
            methods: ["GET", "POST"]
            paths: ["/api/*"]
"""

DENY_ALL = """
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata:
  name: deny-all
  namespace: secure-apps
spec:
  {}
"""
