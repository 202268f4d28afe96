"""CertificateSigningRequests by real kubectl: asked for, approved, denied, signed; each by whoever has the right."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_server import ApiServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SIGNER = "example.com/mesh"
KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web")])
POLICY = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: asker, namespace: default}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: approver, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: asks}
rules:
- {apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests], verbs: [create, get, list]}
- apiGroups: [certificates.k8s.io]
  resources: [certificatesigningrequests/approval, certificatesigningrequests/status]
  verbs: [update]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: approves}
rules: [{apiGroups: [certificates.k8s.io], resources: [signers], resourceNames: ["example.com/*"], verbs: [approve]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: asks}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: asks}
subjects:
- {kind: ServiceAccount, name: asker, namespace: default}
- {kind: ServiceAccount, name: approver, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: approves}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: approves}
subjects: [{kind: ServiceAccount, name: approver, namespace: default}]
"""


@pytest.fixture(scope="module", autouse=True)
def policy(server: ApiServer) -> None:
    server.kubectl("apply", "-f", "-", stdin=POLICY)


def request(name: str, **spec: Any) -> dict[str, Any]:
    """A request as a client writes it."""
    csr = x509.CertificateSigningRequestBuilder(NAME).sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)
    wanted = {"request": base64.b64encode(csr).decode(), "signerName": SIGNER, "usages": ["client auth"]} | spec
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {key: value for key, value in wanted.items() if value is not None},
    }


def certificate() -> str:
    """What a signer answers."""
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 1, now, now + timedelta(hours=1))
    return base64.b64encode(builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)).decode()


def ask(server: ApiServer, name: str) -> None:
    server.kubectl("create", "-f", "-", stdin=json.dumps(request(name)))


def test_a_request_is_approved_by_kubectl_and_signed_by_a_controller(server: ApiServer) -> None:
    """Columns, conditions and the certificate, as kubectl shows them."""
    ask(server, "web")
    assert server.kubectl("get", "csr", "web").splitlines()[1].split()[-1] == "Pending"

    assert "approved" in server.kubectl("certificate", "approve", "web")
    found = json.loads(server.kubectl("get", "csr", "web", "-o", "json"))
    assert [each["type"] for each in found["status"]["conditions"]] == ["Approved"]
    assert found["spec"]["groups"] == ["system:masters", "system:authenticated"]

    found["status"]["certificate"] = certificate()
    found["status"]["conditions"] = []
    code, answered = server.request("PUT", f"{PATH}/web/status", found)
    assert code == 200, answered
    assert [each["type"] for each in answered["status"]["conditions"]] == ["Approved"]
    header, line = server.kubectl("get", "csr", "web").splitlines()
    assert header.split() == ["NAME", "AGE", "SIGNERNAME", "REQUESTOR", "REQUESTEDDURATION", "CONDITION"]
    assert line.split()[2:] == [SIGNER, found["spec"]["username"], "<none>", "Approved,Issued"]

    found["status"]["certificate"] = base64.b64encode(b"no certificate").decode()
    code, refused = server.request("PUT", f"{PATH}/web/status", {**found, "metadata": {"name": "web"}})
    assert code == 422, refused


def test_a_denied_request_is_not_approved_any_more(server: ApiServer) -> None:
    """The decision stays, whoever asks for what."""
    ask(server, "no")
    assert "denied" in server.kubectl("certificate", "deny", "no")
    assert "already Denied" in server.kubectl("certificate", "approve", "no", "--force", succeeds=False)
    found = json.loads(server.kubectl("get", "csr", "no", "-o", "json"))
    found["status"]["conditions"] = []
    assert server.request("PUT", f"{PATH}/no/approval", found)[0] == 422
    found["status"]["conditions"] = [{"type": name, "status": "True"} for name in ("Approved", "Denied")]
    _, refused = server.request("PUT", f"{PATH}/no/approval", found)
    assert "mutually exclusive" in refused["message"]
    assert "Denied" in server.kubectl("get", "csr", "no")


def test_who_asks_is_what_the_server_knows_and_a_request_never_changes(server: ApiServer) -> None:
    """A user cannot ask in another's name, approve in passing, or exchange what was approved."""
    token = server.kubectl("create", "token", "asker").strip()
    wanted = request("mine", username="system:admin", groups=["system:masters"], uid="1")
    wanted["status"] = {"conditions": [{"type": "Approved", "status": "True"}], "certificate": certificate()}
    code, made = server.request("POST", PATH, wanted, token=token)
    assert code == 201, made
    assert made["spec"]["username"] == "system:serviceaccount:default:asker"
    assert "system:masters" not in made["spec"]["groups"]
    assert not made.get("status")

    made["spec"]["signerName"] = "kubernetes.io/kube-apiserver-client"
    made["status"] = {"conditions": [{"type": "Approved", "status": "True"}]}
    code, changed = server.request("PUT", f"{PATH}/mine", made)
    assert code == 200, changed
    assert changed["spec"]["signerName"] == SIGNER
    assert not changed.get("status")


def test_approving_and_signing_are_rights_of_their_own(server: ApiServer) -> None:
    """The subresource alone is not enough: the signer must be in the caller's rights."""
    ask(server, "rights")
    found = json.loads(server.kubectl("get", "csr", "rights", "-o", "json"))
    found["status"] = {"conditions": [{"type": "Approved", "status": "True", "reason": "Test", "message": "yes"}]}
    asker, approver = (server.kubectl("create", "token", name).strip() for name in ("asker", "approver"))

    code, refused = server.request("PUT", f"{PATH}/rights/approval", found, token=asker)
    assert code == 403
    assert f'signers.certificates.k8s.io "{SIGNER}" is forbidden' in refused["message"]
    assert server.request("PUT", f"{PATH}/rights/approval", found, token=approver)[0] == 200

    signed = {**found, "metadata": {"name": "rights"}, "status": {"certificate": certificate()}}
    assert server.request("PUT", f"{PATH}/rights/status", signed, token=approver)[0] == 403


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"request": None}, "spec.request"),
        ({"request": base64.b64encode(b"-----BEGIN X-----").decode()}, "spec.request"),
        ({"signerName": None}, "spec.signerName"),
        ({"signerName": "mesh"}, "spec.signerName"),
        ({"signerName": "nodots/mesh"}, "spec.signerName"),
        ({"usages": []}, "spec.usages"),
        ({"usages": ["flying"]}, "spec.usages[0]"),
        ({"expirationSeconds": 60}, "spec.expirationSeconds"),
    ],
    ids=str,
)
def test_requests_that_are_refused(server: ApiServer, change: dict[str, Any], field: str) -> None:
    code, refused = server.request("POST", PATH, request("bad", **change))
    assert code == 422, refused
    assert field in [cause["field"] for cause in refused["details"]["causes"]]
