"""What the agent reads from its environment."""

from datetime import timedelta
from pathlib import Path

import pytest

from mutua.errors import InvalidInputError
from mutua.programs import agent_settings

POD = {"POD_NAME": "web-0", "POD_NAMESPACE": "shop", "INSTANCE_IP": "10.1.2.3", "SERVICE_ACCOUNT": "web"}


def test_the_defaults() -> None:
    """Istio's, but for rotation at 80 % and ECDSA keys."""
    settings = agent_settings.read(POD)

    assert str(settings.identity) == "spiffe://cluster.local/ns/shop/sa/web"
    assert settings.token_address == "istiod.istio-system.svc:15013"
    assert settings.renewal_address == "istiod.istio-system.svc:15012"
    assert settings.bootstrap.discovery_name == "istiod.istio-system.svc"
    assert (timedelta(hours=24), 0.2, 0.01) == (settings.ttl, settings.grace_ratio, settings.grace_ratio_jitter)
    assert ("P256", timedelta(seconds=5), 2) == (settings.key_algorithm, settings.drain, settings.concurrency)
    assert Path("/var/run/secrets/tokens/istio-token") == settings.token_path
    assert settings.bootstrap.mark == 0
    assert settings.bootstrap.node_cluster == "web-0.shop"


def test_what_the_injector_sets() -> None:
    """Addresses, metadata and the proxy's own settings."""
    settings = agent_settings.read(
        POD
        | {
            "CA_ADDR": "ca.example:1",
            "PROXY_CONFIG": '{"discoveryAddress":"xds.example:2","concurrency":1,"terminationDrainDuration":"1m30s"}',
            "ISTIO_META_CLUSTER_ID": "Kubernetes",
            "ISTIO_META_WORKLOAD_NAME": "web",
            "ISTIO_META_POD_PORTS": "[]",
            "MUTUA_UPSTREAM_MARK": "1337",
            "TRUST_DOMAIN": "example.com",
        },
        labels='app="shop \\"front\\""\nversion="v1"\n',
        version="0.1.0",
        cluster_domain="corp.local",
    )

    assert (settings.token_address, settings.renewal_address) == ("ca.example:1", "xds.example:2")
    assert (1, timedelta(seconds=90), 1337) == (settings.concurrency, settings.drain, settings.bootstrap.mark)
    assert str(settings.identity) == "spiffe://example.com/ns/shop/sa/web"
    assert settings.bootstrap.node_id == "sidecar~10.1.2.3~web-0.shop~shop.svc.corp.local"
    assert settings.bootstrap.node_cluster == 'shop "front".shop'
    metadata = settings.bootstrap.metadata
    assert metadata["LABELS"] == {"app": 'shop "front"', "version": "v1"}
    assert tuple(
        metadata[name] for name in ("NAMESPACE", "NAME", "SERVICE_ACCOUNT", "INSTANCE_IPS", "ISTIO_VERSION")
    ) == ("shop", "web-0", "web", "10.1.2.3", "0.1.0")
    assert tuple(metadata[name] for name in ("CLUSTER_ID", "WORKLOAD_NAME", "MESH_ID")) == (
        "Kubernetes",
        "web",
        "example.com",
    )


def test_a_pod_with_an_ipv6_address() -> None:
    """Its probes come over IPv6."""
    settings = agent_settings.read(POD | {"INSTANCE_IP": "fd00::5"})

    assert settings.bootstrap.status_address == "::"
    assert settings.bootstrap.node_id.startswith("sidecar~fd00::5~")


def test_proxy_config_may_be_yaml() -> None:
    """As people write it by hand, and as Istio's injector does."""
    settings = agent_settings.read(POD | {"PROXY_CONFIG": "discoveryAddress: a:1\nconcurrency: 4\n"})

    assert (settings.renewal_address, settings.concurrency) == ("a:1", 4)


@pytest.mark.parametrize(
    ("environment", "algorithm"),
    [
        ({}, "P256"),
        ({"ECC_SIGNATURE_ALGORITHM": "ECDSA"}, "P256"),
        ({"ECC_SIGNATURE_ALGORITHM": "ECDSA", "ECC_CURVE": "P384", "WORKLOAD_RSA_KEY_SIZE": "4096"}, "P384"),
        ({"ECC_CURVE": "P999"}, "P256"),
        ({"WORKLOAD_RSA_KEY_SIZE": "2048"}, "RSA-2048"),
        ({"WORKLOAD_RSA_KEY_SIZE": "4096"}, "RSA-4096"),
    ],
)
def test_key_algorithms(environment: dict[str, str], algorithm: str) -> None:
    """RSA only when it is asked for by its size."""
    assert algorithm == agent_settings.read(POD | environment).key_algorithm


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"POD_NAME": ""}, "POD_NAME is not set"),
        ({"INSTANCE_IP": ""}, "INSTANCE_IP is not set"),
        ({"SECRET_TTL": "1d"}, "SECRET_TTL is '1d'"),
        ({"SECRET_TTL": "h"}, "SECRET_TTL is 'h'"),
        ({"SECRET_GRACE_PERIOD_RATIO": "1.5"}, "SECRET_GRACE_PERIOD_RATIO is '1.5'"),
        ({"SECRET_GRACE_PERIOD_RATIO": "half"}, "SECRET_GRACE_PERIOD_RATIO is 'half'"),
        ({"SECRET_GRACE_PERIOD_RATIO_JITTER": "nan"}, "SECRET_GRACE_PERIOD_RATIO_JITTER is 'nan'"),
        ({"CA_ADDR": "istiod"}, "CA_ADDR is 'istiod'"),
        ({"CA_ADDR": "istiod:70000"}, "CA_ADDR is 'istiod:70000'"),
        ({"PROXY_CONFIG": "["}, "PROXY_CONFIG"),
        ({"PROXY_CONFIG": "3"}, "PROXY_CONFIG is not an object"),
        ({"PROXY_CONFIG": '{"discoveryAddress":"x"}'}, "discoveryAddress is 'x'"),
        ({"PROXY_CONFIG": '{"concurrency":"many"}'}, "concurrency is 'many'"),
        ({"PROXY_CONFIG": '{"proxyAdminPort":true}'}, "proxyAdminPort is True"),
        ({"TRUST_DOMAIN": "a/b"}, "trust domain 'a/b'"),
        ({"POD_NAMESPACE": "a/b"}, "'a/b'"),
        ({"ECC_SIGNATURE_ALGORITHM": "RSA"}, "unsupported EC signature algorithm"),
        ({"WORKLOAD_RSA_KEY_SIZE": "1024"}, "minimum required size of 2048 .requested: 1024."),
        ({"MUTUA_UPSTREAM_MARK": "x"}, "MUTUA_UPSTREAM_MARK is 'x'"),
    ],
)
def test_wrong_settings_name_their_variable(environment: dict[str, str], text: str) -> None:
    """Each with one error that says which."""
    with pytest.raises(InvalidInputError, match=text):
        agent_settings.read(POD | environment)
