"""The page about a mesh says who guards whom, and never lets a name from the cluster become markup."""

from mutua.analysis.message import Message, Subject
from mutua.api import decode, kinds
from mutua.api.core import Pod
from mutua.api.findings import Severity
from mutua.api.meshconfig import MeshConfig
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.reports import dashboard
from mutua.reports.proxy_status import PlaintextSeen


def pod(name: str, *containers: str) -> Pod:
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"containers": [{"name": container} for container in containers]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    }
    value = decode.from_mapping(kinds.POD, document).value
    assert isinstance(value, Pod)
    return value


STRICT = decode.any_from_mapping(
    {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"namespace": "shop", "name": "all-strict"},
        "spec": {"mtls": {"mode": "STRICT"}},
    }
).value


def shown(*messages: Message, plaintext: tuple[PlaintextSeen, ...] = (), trouble: str = "") -> str:
    assert STRICT is not None
    objects = ObjectSet.of([pod("web-1", "web", "istio-proxy"), pod("plain-1", "plain"), STRICT])
    snapshot = build.snapshot(objects, MeshConfig())
    return dashboard.page(dashboard.Overview(snapshot, messages, plaintext, trouble, "now"))


def test_a_guarded_workload_shows_its_mode_and_who_decided_it() -> None:
    assert '<td>web-1</td><td class="good">yes</td><td class="good">STRICT</td><td>shop/all-strict</td>' in shown()


def test_a_workload_without_sidecar_is_said_to_be_open() -> None:
    assert '<td>plain-1</td><td class="bad">no</td><td class="bad">anything' in shown()


def test_plaintext_is_listed_with_its_outcome_or_why_nothing_is_known() -> None:
    seen = PlaintextSeen("shop/plain-1", "shop/web-1", 80, True, 7, "the client has no sidecar")

    assert '<td>80</td><td class="good">refused</td><td>7</td>' in shown(plaintext=(seen,))
    assert "Not known: no control plane" in shown(trouble="Not known: no control plane")


def test_names_are_text_and_never_markup() -> None:
    evil = Message("MUT0001", Severity.ERROR, Subject("Pod", "shop", "<script>"), "<b>bold</b>")

    page = shown(evil)

    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<b>" not in page
