"""What the control plane reads from its environment; nothing else in it does."""

import os
from datetime import timedelta

import msgspec

from mutua.ca.limits import Limits
from mutua.errors import InvalidInputError
from mutua.injection.settings import CONTROL_PLANE_PORTS

XDS_PORT, ENROLMENT_PORT = CONTROL_PLANE_PORTS
WEBHOOK_PORT = 15017
MONITORING_PORT = 15014
READINESS_PORT = 8080
IDENTITY_PAGES_PORT = 15016
"""On the pod's loopback."""


class Settings(msgspec.Struct, frozen=True):
    """Where this replica runs, and the limits of what it issues."""

    pod_name: str
    namespace: str
    revision: str = "default"
    cluster_id: str = "Kubernetes"
    log_level: str = "info"
    limits: Limits = Limits()
    tokens_from_own_pod: bool = True  # a token is taken from its pod's address only
    external_ca: str = ""  # who signs for workloads: KUBERNETES_API or a plugin; "" = the mesh itself
    signer: str = ""  # of the external authority, unless a pod names another
    signer_domain: str = ""  # below which pods may name one

    @property
    def service_suffix(self) -> str:
        """What distinguishes the objects of a revision; "" for the default one."""
        return "" if self.revision == "default" else f"-{self.revision}"

    @property
    def mesh_config_map(self) -> str:
        """Where the mesh config is kept."""
        return f"istio{self.service_suffix}"

    @property
    def injector_config_map(self) -> str:
        """Where the injector's values are kept."""
        return f"istio-sidecar-injector{self.service_suffix}"

    @property
    def host(self) -> str:
        """The name by which proxies and the API server call."""
        return f"istiod{self.service_suffix}.{self.namespace}.svc"

    @property
    def dns_names(self) -> tuple[str, ...]:
        """All names that the serving certificate holds. Source: Istio's getDNSNames."""
        plain = (self.host, f"istiod.{self.namespace}.svc", f"istio-pilot.{self.namespace}.svc")
        return tuple(sorted({*plain, *(f"{name}.cluster.local" for name in plain)}))


def from_environment() -> Settings:
    """Read the variables that the installation sets. Raises InvalidInputError naming the variable."""
    provider = os.environ.get("PILOT_CERT_PROVIDER", "")
    if provider not in ("", "istiod"):
        raise InvalidInputError(
            f"PILOT_CERT_PROVIDER={provider!r} is not followed",
            "the control plane's own certificate is signed by the mesh's own authority, also where EXTERNAL_CA signs "
            "for workloads; leave it out",
        )
    return Settings(
        pod_name=os.environ.get("POD_NAME", "istiod"),
        namespace=os.environ.get("POD_NAMESPACE", "istio-system"),
        revision=os.environ.get("REVISION") or "default",
        cluster_id=os.environ.get("CLUSTER_ID") or "Kubernetes",
        log_level=os.environ.get("LOG_LEVEL") or "info",
        limits=Limits(
            default_ttl=_duration("DEFAULT_WORKLOAD_CERT_TTL", Limits().default_ttl),
            max_ttl=_duration("MAX_WORKLOAD_CERT_TTL", Limits().max_ttl),
        ),
        tokens_from_own_pod=_switch("VERIFY_TOKEN_ADDRESS", default=True),
        external_ca=os.environ.get("EXTERNAL_CA", ""),
        signer=os.environ.get("K8S_SIGNER", ""),
        signer_domain=os.environ.get("CERT_SIGNER_DOMAIN", ""),
    )


def _switch(name: str, *, default: bool) -> bool:
    text = os.environ.get(name, "").lower()
    if text not in ("", "true", "false"):
        raise InvalidInputError(f"{name}={text!r} is neither true nor false")
    return text == "true" if text else default


def _duration(name: str, default: timedelta) -> timedelta:
    """Go's form with one unit, as Istio's settings have it: `24h`, `30m`, `3600s`."""
    text = os.environ.get(name, "")
    if not text:
        return default
    unit = {"h": 3600, "m": 60, "s": 1}.get(text[-1])
    if unit is None or not text[:-1].isdigit() or int(text[:-1]) == 0:
        raise InvalidInputError(f"{name}={text!r} is not a duration", "for example 24h, 90m or 3600s")
    return timedelta(seconds=int(text[:-1]) * unit)
