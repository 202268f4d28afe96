"""The tags of the mesh's metrics in Envoy, several facts in each, and Istio's labels that they stand for."""

from collections.abc import Mapping
from typing import Final, NamedTuple

WAY_TAG: Final = "way"
PEER_TAG: Final = "peer"
IDENTITIES_TAG: Final = "identities"
ANSWER_TAG: Final = "answer"
PROTOCOL_TAG: Final = "protocol"
CLIENT_TAG: Final = "client"

UNKNOWN: Final = "unknown"
_LONGEST_NAME: Final = 63


class Names(NamedTuple):
    """What metrics call a workload."""

    workload: str = UNKNOWN
    namespace: str = UNKNOWN
    app: str = UNKNOWN
    canonical_service: str = UNKNOWN

    @property
    def text(self) -> str:
        """As `peer_names` reads it."""
        return ";".join(self)


def peer_names(text: str) -> Names:
    """The names in a text that a peer may have made up."""
    found = [part[:_LONGEST_NAME] or UNKNOWN for part in text.split(";", 3)]
    return Names(*found)


def way(
    reporter: str, policy: str, host: str = UNKNOWN, name: str = UNKNOWN, namespace: str = UNKNOWN, port: int = 0
) -> str:
    """Who counts, how secure the connection is, and the service that it is for."""
    return ";".join((reporter, policy, host, name, namespace, str(port)))


def labels(tags: Mapping[str, str], own: Names) -> dict[str, str]:
    """Istio's labels. `own`: the workload whose sidecar counted. A caller's namespace is what its certificate says."""
    reporter, policy, host, name, namespace, port = [*tags.get(WAY_TAG, "").split(";"), *[UNKNOWN] * 6][:6]
    source_principal, _, destination_principal = tags.get(IDENTITIES_TAG, ";").partition(";")
    peer = peer_names(tags.get(PEER_TAG, ""))
    outward = reporter == "source"
    source, destination = (own, peer) if outward else (peer._replace(namespace=_namespace(source_principal)), own)
    found = {
        "reporter": reporter,
        **_of("source", source, source_principal),
        **_of("destination", destination, destination_principal),
        "destination_service": host,
        "destination_service_name": name,
        "destination_service_namespace": namespace,
        "destination_port": port,
        "connection_security_policy": policy,
    }
    if PROTOCOL_TAG in tags:
        found["request_protocol"] = tags[PROTOCOL_TAG]
    if ANSWER_TAG in tags:
        code, flags, status = [*tags[ANSWER_TAG].split(";"), "", ""][:3]
        if code:
            found |= {"response_code": code, "grpc_response_status": status}
        found["response_flags"] = flags
    if CLIENT_TAG in tags:
        found["source_address"] = tags[CLIENT_TAG]
    return found


def _of(side: str, names: Names, principal: str) -> dict[str, str]:
    return {
        f"{side}_workload": names.workload,
        f"{side}_workload_namespace": names.namespace,
        f"{side}_app": names.app,
        f"{side}_canonical_service": names.canonical_service,
        f"{side}_principal": principal or UNKNOWN,
    }


def _namespace(principal: str) -> str:
    """spiffe://<trust domain>/ns/<namespace>/sa/<service account>"""
    parts = principal.split("/")
    return parts[4] if len(parts) == 7 and parts[3] == "ns" else UNKNOWN
