"""The cluster's keys and certificates: made once, renewed in time, kept from others."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from localcluster import kubeconfig, pki
from localcluster.paths import ClusterPaths

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def paths(tmp_path: Path) -> ClusterPaths:
    return ClusterPaths(tmp_path / "demo")


def serving(paths: ClusterPaths) -> x509.Certificate:
    return x509.load_pem_x509_certificate(paths.serving_certificate.read_bytes())


def test_everything_is_made_once_and_then_kept(paths: ClusterPaths) -> None:
    pki.ensure(paths, (), (), NOW)
    before = {path.name: path.read_bytes() for path in paths.pki.iterdir()}
    pki.ensure(paths, (), (), NOW + timedelta(days=30))

    assert {path.name: path.read_bytes() for path in paths.pki.iterdir()} == before
    assert set(before) == {
        "ca.crt",
        "ca.key",
        "apiserver.crt",
        "apiserver.key",
        "service-account.key",
        "admin.token",
        "node.token",
    }


def test_keys_and_tokens_are_for_their_owner_only(paths: ClusterPaths) -> None:
    found = pki.ensure(paths, (), (), NOW)

    for path in paths.pki.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == (0o644 if path.suffix == ".crt" else 0o600), path.name
    assert stat.S_IMODE(paths.pki.stat().st_mode) == 0o700
    assert found.admin_token not in repr(found)
    assert len(found.admin_token) >= 43
    assert found.admin_token != found.node_token


def test_the_serving_certificate_names_the_api_and_what_was_asked_for(paths: ClusterPaths) -> None:
    pki.ensure(paths, ("api.example.com",), ("192.0.2.1",), NOW)

    names = serving(paths).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "kubernetes.default.svc", "api.example.com"} <= set(names.get_values_for_type(x509.DNSName))
    assert {ip_address(a) for a in ("127.0.0.1", "::1", "10.96.0.1", "192.0.2.1")} == set(
        names.get_values_for_type(x509.IPAddress)
    )


def test_strict_verification_accepts_the_chain(paths: ClusterPaths) -> None:
    found = pki.ensure(paths, (), (), datetime.now(UTC))
    store = x509.verification.Store([x509.load_pem_x509_certificate(found.ca_certificate)])
    verifier = x509.verification.PolicyBuilder().store(store).build_server_verifier(x509.DNSName("localhost"))

    assert verifier.verify(serving(paths), [])
    context = ssl.create_default_context(cadata=found.ca_certificate.decode())
    context.load_cert_chain(found.certificate_file, found.key_file)


@pytest.mark.parametrize(
    ("later", "is_renewed"), [(timedelta(days=334), False), (timedelta(days=336), True), (timedelta(days=400), True)]
)
def test_the_serving_certificate_is_renewed_a_month_before_its_end(
    paths: ClusterPaths, later: timedelta, is_renewed: bool
) -> None:
    pki.ensure(paths, (), (), NOW)
    first = serving(paths)
    pki.ensure(paths, (), (), NOW + later)

    assert (serving(paths) != first) is is_renewed


def test_a_new_name_or_half_written_files_lead_to_a_new_certificate(paths: ClusterPaths) -> None:
    pki.ensure(paths, (), (), NOW)
    first = serving(paths)
    pki.ensure(paths, ("more.example.com",), (), NOW)
    second = serving(paths)
    paths.serving_key.write_bytes(paths.service_account_key.read_bytes())
    pki.ensure(paths, (), (), NOW)

    assert len({certificate.serial_number for certificate in (first, second, serving(paths))}) == 3


def test_a_broken_authority_is_an_error_that_says_what_to_do(paths: ClusterPaths) -> None:
    pki.ensure(paths, (), (), NOW)
    with pytest.raises(pki.PkiError, match="expired"):
        pki.ensure(paths, (), (), NOW + timedelta(days=4000))
    paths.ca_key.write_bytes(paths.service_account_key.read_bytes())
    with pytest.raises(pki.PkiError, match="do not belong together") as caught:
        pki.ensure(paths, (), (), NOW)
    assert "delete the folder" in caught.value.hint


def test_loading_creates_nothing(paths: ClusterPaths) -> None:
    with pytest.raises(pki.PkiError, match="cannot read"):
        pki.load(paths)
    assert not paths.pki.exists()


def test_the_kubeconfig_points_at_the_loopback_with_the_admin_token(paths: ClusterPaths) -> None:
    found = pki.ensure(paths, (), (), NOW)
    written = kubeconfig.write(paths, 6443)

    content = yaml.safe_load(written.read_text())
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert content["current-context"] == "demo"
    assert content["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    assert content["users"][0]["user"] == {"token": found.admin_token}
