"""External authorities: CertificateSigningRequests on a real API server, and a plugin by its entry point."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from fakes.certificates import issued_authority, signing_request
from mutua.ca.authority import Authority
from mutua.ca.bundle import pem
from mutua.ca.caller import Caller, Credential
from mutua.ca.errors import AuthorityError, CsrError, SignedWrongError
from mutua.errors import InvalidInputError
from mutua.mesh.trust_bundles import TrustBundles
from mutua.programs.control_plane import external
from mutua.programs.control_plane.settings import Settings
from mutua.spiffe import SpiffeId
from mutua.system import clock, keys
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import CERTIFICATE_SIGNING_REQUESTS

SIGNER = "example.com/mesh"
OTHER = "example.com/other"
WEB = SpiffeId("cluster.local", "shop", "web")
CALLER = Caller(WEB, Credential.TOKEN, pod="web-0")
KEY = keys.generate()
Object = dict[str, Any]


def sign(authority: Authority, csr: x509.CertificateSigningRequest) -> bytes:
    """What a signer makes of a request: it copies the names, as cert-manager does."""
    now = clock.now()
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    leaf = (
        x509.CertificateBuilder(authority.certificate.subject, csr.subject, csr.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(usages, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(authority.key, hashes.SHA256())
    )
    return pem([leaf, *authority.chain]).encode()


@dataclass
class Controller:
    """A signer of the test's own: it answers approved requests with `answer`, or does what `refuse` says."""

    kube: KubeClient
    authorities: dict[str, Authority]
    refuse: str = ""
    answer: Callable[[Authority, x509.CertificateSigningRequest], bytes] = sign
    seen: list[Object] = field(default_factory=list)

    async def run(self) -> None:
        async for event in self.kube.watch(CERTIFICATE_SIGNING_REQUESTS):
            for raw in event.objects:
                await self._look(msgspec.json.decode(raw))

    async def _look(self, request: Object) -> None:
        status, signer = request.get("status") or {}, request["spec"]["signerName"]
        types = [condition["type"] for condition in status.get("conditions") or ()]
        if signer not in self.authorities or "Approved" not in types or status.get("certificate") or "Failed" in types:
            return
        self.seen.append(request)
        if self.refuse == "silence":
            return
        if self.refuse:
            condition = {"type": self.refuse, "status": "True", "reason": "Policy", "message": "not today"}
            changed = {"conditions": [*status["conditions"], condition]}
        else:
            csr = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
            chain = self.answer(self.authorities[signer], csr)
            changed = {"conditions": status["conditions"], "certificate": base64.b64encode(chain).decode()}
        body = {
            **request,
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "status": changed,
        }
        await self.kube.replace(CERTIFICATE_SIGNING_REQUESTS, body, subresource="status")


@pytest.fixture
async def controller(kube: KubeClient) -> AsyncIterator[Controller]:
    made = Controller(kube, {SIGNER: issued_authority(1, clock.now()), OTHER: issued_authority(0, clock.now())})
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def settings(**changes: Any) -> Settings:
    wanted = {"external_ca": "ISTIOD_RA_KUBERNETES_API", "signer": SIGNER, "signer_domain": "example.com"} | changes
    return Settings(pod_name="istiod-0", namespace="istio-system", **wanted)


def bundles(controller: Controller) -> TrustBundles:
    return TrustBundles(
        signers=tuple((name, authority.root_bundle) for name, authority in sorted(controller.authorities.items()))
    )


async def issue(kube: KubeClient, controller: Controller, chosen: str = "", csr: str = "", **changes: Any) -> Any:
    found = external.authority(kube, settings(**changes), lambda: bundles(controller))
    assert found is not None
    wanted = csr or signing_request(KEY, [str(WEB)])
    return await found.issue(wanted, CALLER, timedelta(hours=1), chosen, "roots\n")


async def requests_left(kube: KubeClient) -> int:
    return len((await kube.list_raw(CERTIFICATE_SIGNING_REQUESTS)).objects)


async def test_a_workload_s_certificate_comes_from_the_signer(kube: KubeClient, controller: Controller) -> None:
    """Approved by us, signed by the controller, checked, and nothing stays behind."""
    issued = await issue(kube, controller)
    leaf = x509.load_pem_x509_certificate(issued.chain[0].encode())
    assert leaf.issuer == controller.authorities[SIGNER].certificate.subject
    assert leaf.public_key() == KEY.public_key()
    assert issued.chain[-1] == "roots\n"
    (request,) = controller.seen
    assert request["spec"]["expirationSeconds"] == 3600
    assert set(request["spec"]["usages"]) == {"digital signature", "key encipherment", "server auth", "client auth"}
    assert await requests_left(kube) == 0


async def test_many_at_once(kube: KubeClient, controller: Controller) -> None:
    """Each gets its own."""
    found = await asyncio.gather(*(issue(kube, controller) for _ in range(20)))
    assert len({each.serial for each in found}) == 20
    assert await requests_left(kube) == 0


async def test_a_pod_chooses_among_the_signers_of_the_domain(kube: KubeClient, controller: Controller) -> None:
    """`CERT_SIGNER` in its metadata; where no domain is set it may not choose at all."""
    issued = await issue(kube, controller, "other")
    leaf = x509.load_pem_x509_certificate(issued.chain[0].encode())
    assert leaf.issuer == controller.authorities[OTHER].certificate.subject
    with pytest.raises(CsrError, match="CERT_SIGNER_DOMAIN"):
        await issue(kube, controller, "other", signer_domain="")
    with pytest.raises(AuthorityError, match=r"no roots are known for signer 'example\.com/unknown'"):
        await issue(kube, controller, "unknown")
    with pytest.raises(AuthorityError, match="K8S_SIGNER is empty"):
        await issue(kube, controller, signer="")


@pytest.mark.parametrize("refusal", ["Failed", "silence"])
async def test_a_signer_that_refuses_or_says_nothing(
    kube: KubeClient, controller: Controller, refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One clear error, with the signer's reason; the request is taken back."""
    monkeypatch.setattr(external, "PATIENCE_SECONDS", 1.0)
    controller.refuse = refusal
    with pytest.raises(AuthorityError, match=r"failed: Policy: not today|did not answer within 1 s"):
        await issue(kube, controller)
    assert await requests_left(kube) == 0


async def test_a_signer_that_lies(kube: KubeClient, controller: Controller) -> None:
    """It names somebody else, or signs under a root that nobody announced: never given to the workload."""
    admin = x509.load_pem_x509_csr(signing_request(KEY, ["spiffe://cluster.local/ns/shop/sa/admin"]).encode())
    controller.answer = lambda authority, _: sign(authority, admin)
    with pytest.raises(SignedWrongError, match="its names are"):
        await issue(kube, controller)
    stranger = issued_authority(0, clock.now())
    controller.answer = lambda _, csr: sign(stranger, csr)
    with pytest.raises(SignedWrongError, match="does not lead to a root"):
        await issue(kube, controller)


async def test_a_request_for_another_is_never_sent(kube: KubeClient, controller: Controller) -> None:
    forged = signing_request(KEY, ["spiffe://cluster.local/ns/shop/sa/admin"])
    with pytest.raises(CsrError):
        await issue(kube, controller, csr=forged)
    assert controller.seen == []


PLUGIN = '''
"""An authority in a file."""

from cryptography import x509
from mutua.ca.errors import AuthorityError
from mutua.ca.external import Order

AUTHORITY, SIGN, ORDERS = None, None, []


class Signer:
    async def sign(self, order: Order) -> bytes:
        ORDERS.append(order)
        if AUTHORITY is None:
            raise RuntimeError("the vault is sealed")
        return SIGN(AUTHORITY, x509.load_pem_x509_csr(order.csr.encode()))
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package with an entry point, installed as pip leaves it."""
    (tmp_path / "acme_signer.py").write_text(PLUGIN)
    folder = tmp_path / "acme_signer-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-signer\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[mutua.certificate_signers]\nacme = acme_signer:Signer\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    return importlib.import_module("acme_signer")


async def test_a_plugin_signs(kube: KubeClient, controller: Controller, plugin: Any) -> None:
    """`EXTERNAL_CA` names its entry point; its answers are checked as anybody's."""
    with pytest.raises(AuthorityError, match="RuntimeError: the vault is sealed"):
        await issue(kube, controller, external_ca="acme")
    plugin.AUTHORITY, plugin.SIGN = controller.authorities[SIGNER], sign
    issued = await issue(kube, controller, external_ca="acme")
    assert issued.names == (str(WEB),)
    assert plugin.ORDERS[-1].identity == WEB
    plugin.AUTHORITY = issued_authority(0, clock.now())
    with pytest.raises(SignedWrongError):
        await issue(kube, controller, external_ca="acme")


async def test_a_plugin_that_is_not_installed(kube: KubeClient, controller: Controller) -> None:
    """The control plane does not start, and says what there is."""
    with pytest.raises(InvalidInputError, match="not installed") as raised:
        await issue(kube, controller, external_ca="vault")
    assert "ISTIOD_RA_KUBERNETES_API" in raised.value.hint
