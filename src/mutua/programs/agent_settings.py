"""What the agent is told by its environment, under Istio's names."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from mutua.ca.rotation import GRACE_RATIO, GRACE_RATIO_JITTER
from mutua.envoy import bootstrap
from mutua.envoy.bootstrap import Address, BootstrapSettings
from mutua.errors import InvalidInputError
from mutua.injection import app_probes, scrape
from mutua.injection.app_probes import STATUS_PORT, AppProbe
from mutua.injection.scrape import Scrape
from mutua.spiffe import SpiffeId, TrustDomain

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_DURATION_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LABEL_LINE = re.compile(r'^([^=]+)="((?:[^"\\]|\\.)*)"$')
_METADATA_PREFIX = "ISTIO_META_"
_TOKEN_PORT = 15013


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one agent depends on."""

    identity: SpiffeId
    pod: str
    bootstrap: BootstrapSettings
    token_address: str  # host:port for the first certificate
    renewal_address: str  # host:port for the next ones
    cluster_id: str
    signer: str  # of an external authority, "" = the control plane's default
    ttl: timedelta
    grace_ratio: float
    grace_ratio_jitter: float
    key_algorithm: str  # value of keys.KeyAlgorithm
    pkcs8: bool
    drain: timedelta
    concurrency: int
    proxy_log_level: str
    component_log_level: str
    pod_root: Path  # below which all the other paths lie
    certificates_from_files: bool  # demanded; where the files are there, they are used anyway
    token_path: Path
    root_path: Path
    socket_path: Path
    config_folder: Path
    pod_address: str
    status_port: int  # 0 = nobody is answered
    app_probes: Mapping[str, AppProbe]
    scrape: Scrape | None  # the application's own metrics


def read(
    environment: Mapping[str, str],
    *,
    labels: str = "",
    version: str = "",
    cluster_domain: str = "cluster.local",
    proxy_log_level: str = "warning",
    component_log_level: str = "misc:error",
) -> AgentSettings:
    """Settings from environment variables and the downward API's labels file (`key="value"` lines).

    `MUTUA_ROOT` moves every path below another folder; `MUTUA_UPSTREAM_MARK` is the SO_MARK of Envoy's sockets.
    Raises InvalidInputError with the variable's name.
    """
    proxy = _proxy_config(environment.get("PROXY_CONFIG", ""))
    discovery = _address(
        "PROXY_CONFIG discoveryAddress", str(proxy.get("discoveryAddress", "")), "istiod.istio-system.svc:15012"
    )
    token_address = _address("CA_ADDR", environment.get("CA_ADDR", ""), f"{discovery.host}:{_TOKEN_PORT}")
    namespace, pod, address = (_required(environment, name) for name in ("POD_NAMESPACE", "POD_NAME", "INSTANCE_IP"))
    account = environment.get("SERVICE_ACCOUNT") or "default"
    trust_domain = TrustDomain.parse(environment.get("TRUST_DOMAIN") or "cluster.local")
    root = Path(environment.get("MUTUA_ROOT") or "/")
    socket = root / "var/run/secrets/workload-spiffe-uds/socket"
    pod_labels = parse_labels(labels)
    metadata = _metadata(environment, proxy, pod_labels) | {
        "ISTIO_VERSION": version,
        "NAME": pod,
        "NAMESPACE": namespace,
        "SERVICE_ACCOUNT": account,
        "INSTANCE_IPS": address,
    }
    workload = pod_labels.get("app") or environment.get("ISTIO_META_WORKLOAD_NAME") or pod
    return AgentSettings(
        identity=SpiffeId.of(trust_domain, namespace, account),
        pod=pod,
        bootstrap=BootstrapSettings(
            node_id=bootstrap.node_id(address, pod, namespace, cluster_domain),
            node_cluster=f"{workload}.{namespace}",
            metadata=metadata,
            discovery=discovery,
            discovery_name=environment.get("ISTIOD_SAN") or discovery.host,
            sds_socket=str(socket),
            status_address="::" if ":" in address else "0.0.0.0",  # noqa: S104 - the node probes the pod's address
            mark=_integer(environment, "MUTUA_UPSTREAM_MARK", 0),
            admin_port=_proxy_number(proxy, "proxyAdminPort", bootstrap.ADMIN_PORT),
            readiness_port=_integer(environment, "ENVOY_STATUS_PORT", bootstrap.READINESS_PORT),
            agent_port=_proxy_number(proxy, "statusPort", STATUS_PORT),
            metrics_port=_integer(environment, "ENVOY_PROMETHEUS_PORT", bootstrap.METRICS_PORT),
        ),
        token_address=f"{token_address.host}:{token_address.port}",
        renewal_address=f"{discovery.host}:{discovery.port}",
        cluster_id=environment.get("ISTIO_META_CLUSTER_ID", ""),
        signer=environment.get("ISTIO_META_CERT_SIGNER", ""),
        ttl=_duration("SECRET_TTL", environment.get("SECRET_TTL") or "24h"),
        grace_ratio=_ratio(environment, "SECRET_GRACE_PERIOD_RATIO", GRACE_RATIO),
        grace_ratio_jitter=_ratio(environment, "SECRET_GRACE_PERIOD_RATIO_JITTER", GRACE_RATIO_JITTER),
        key_algorithm=_key_algorithm(environment),
        pkcs8=environment.get("PKCS8_KEY", "").lower() in ("1", "true"),
        drain=_duration("terminationDrainDuration", str(proxy.get("terminationDrainDuration") or "5s")),
        # Two workers serve any sidecar's load but the largest; each costs memory in every pod.
        concurrency=_proxy_number(proxy, "concurrency", 2),
        proxy_log_level=proxy_log_level,
        component_log_level=component_log_level,
        pod_root=root,
        certificates_from_files=environment.get("FILE_MOUNTED_CERTS", "").lower() in ("1", "true"),
        token_path=root / "var/run/secrets/tokens/istio-token",
        root_path=root / "var/run/secrets/istio/root-cert.pem",
        socket_path=socket,
        config_folder=root / "etc/istio/proxy",
        pod_address=address,
        status_port=_proxy_number(proxy, "statusPort", STATUS_PORT),
        app_probes=app_probes.decode(environment.get(app_probes.VARIABLE, "")),
        scrape=scrape.decode(environment.get(scrape.VARIABLE, "")),
    )


def parse_labels(text: str) -> dict[str, str]:
    """The downward API's file: one `key="value"` line for each label, the value escaped as in Go."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if matched := _LABEL_LINE.match(line):
            found[matched[1]] = re.sub(r"\\(.)", r"\1", matched[2])
    return found


def _metadata(environment: Mapping[str, str], proxy: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {
        name.removeprefix(_METADATA_PREFIX): value
        for name, value in sorted(environment.items())
        if name.startswith(_METADATA_PREFIX)
    }
    values.setdefault("CLUSTER_ID", "Kubernetes")
    values.setdefault("MESH_ID", environment.get("TRUST_DOMAIN") or "cluster.local")
    return values | {"LABELS": dict(labels), "PROXY_CONFIG": dict(proxy)}


def _proxy_config(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        # The injector writes JSON, so that starting a pod does not cost a YAML parser.
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        import yaml

        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InvalidInputError(f"PROXY_CONFIG is neither JSON nor YAML: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInputError(
            "PROXY_CONFIG is not an object", "for example: discoveryAddress: istiod.istio-system.svc:15012"
        )
    return value


def _proxy_number(proxy: Mapping[str, Any], field: str, default: int) -> int:
    value = proxy.get(field)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInputError(f"PROXY_CONFIG {field} is {value!r}, not a whole number")
    return value


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise InvalidInputError(
            f"environment variable {name} is not set", "the injector sets it from the pod; was the pod made by hand?"
        )
    return value


def _address(name: str, text: str, default: str) -> Address:
    host, separator, port = (text or default).rpartition(":")
    if not separator or not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise InvalidInputError(f"{name} is {text!r}, not host:port", f"for example {default}")
    return Address(host, int(port))


def _integer(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdecimal():
        raise InvalidInputError(f"environment variable {name} is {text!r}, not a whole number")
    return int(text)


def _ratio(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InvalidInputError(f"environment variable {name} is {text!r}, not a number from 0 to 1")
    return value


def _key_algorithm(environment: Mapping[str, str]) -> str:
    """ECDSA P-256 unless RSA is asked for by its size; the rules are Istio's, the default is cheaper handshakes."""
    signature = environment.get("ECC_SIGNATURE_ALGORITHM", "")
    if signature not in ("", "ECDSA"):
        raise InvalidInputError(
            "csr cert generation fails due to unsupported EC signature algorithm",
            f"ECC_SIGNATURE_ALGORITHM is {signature!r}; the only value is ECDSA",
        )
    if not signature and (size := _integer(environment, "WORKLOAD_RSA_KEY_SIZE", 0)):
        if size < 2048:
            raise InvalidInputError(
                f"requested key size does not meet the minimum required size of 2048 (requested: {size})"
            )
        if size not in (2048, 3072, 4096):
            raise InvalidInputError(f"WORKLOAD_RSA_KEY_SIZE is {size}", "use 2048, 3072 or 4096")
        return f"RSA-{size}"
    return "P384" if environment.get("ECC_CURVE") == "P384" else "P256"


def _duration(name: str, text: str) -> timedelta:
    """Go's text form, as in 1h30m or 500ms."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidInputError(f"{name} is {text!r}, not a duration", "for example 24h, 90m or 5s")
    return timedelta(seconds=sum(float(number) * _DURATION_SECONDS[unit] for number, unit in parts))
