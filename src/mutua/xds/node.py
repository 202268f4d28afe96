"""Who a proxy says it is: Istio's node id, parsed or refused."""

from ipaddress import ip_address
from typing import Final, Self

import msgspec

from mutua.errors import InvalidInputError

MAX_LENGTH: Final = 1024
_FORM: Final = "sidecar~<IP>~<pod>.<namespace>~<namespace>.svc.<cluster domain>"


class Node(msgspec.Struct, frozen=True):
    """`sidecar~IP~pod.namespace~namespace.svc.cluster.local`, taken apart. A claim, until the certificate agrees."""

    kind: str
    address: str
    pod: str
    namespace: str
    domain: str

    @classmethod
    def parse(cls, node_id: str) -> Self:
        """Read a node id. Raises InvalidInputError."""
        parts = node_id.split("~") if len(node_id) <= MAX_LENGTH else []
        if len(parts) != 4:
            raise InvalidInputError(f"node id {node_id[:200]!r} is not of the form {_FORM}")
        kind, address, workload, domain = parts
        pod, dot, namespace = workload.rpartition(".")
        if kind != "sidecar" or not (dot and pod and namespace):
            raise InvalidInputError(f"node id {node_id[:200]!r} is not of the form {_FORM}")
        if not domain.startswith(f"{namespace}.svc."):
            raise InvalidInputError(f"node id {node_id[:200]!r} names two namespaces", f"the form is {_FORM}")
        try:
            ip_address(address)
        except ValueError as error:
            raise InvalidInputError(f"node id {node_id[:200]!r} holds no IP address", f"the form is {_FORM}") from error
        return cls(kind=kind, address=address, pod=pod, namespace=namespace, domain=domain)

    def __str__(self) -> str:
        """The id as the proxy sends it."""
        return f"{self.kind}~{self.address}~{self.pod}.{self.namespace}~{self.domain}"
