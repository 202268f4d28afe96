"""TLS for the control plane's two gRPC ports; certificate and trusted roots can be swapped while it serves."""

from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from mutua.secret import Secret


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What one handshake needs."""

    certificate_chain: bytes = field(repr=False)  # PEM, leaf first
    key: Secret
    client_roots: bytes = field(repr=False)  # PEM; whose clients are believed


class ServingTls:
    """The control plane's TLS identity. `replace` takes effect with the next handshake; open connections go on."""

    def __init__(self, material: TlsMaterial) -> None:
        self._material = material

    def replace(self, material: TlsMaterial) -> None:
        """Serve with another certificate, key or roots from now on. Sessions of before cannot be resumed."""
        self._material = material

    def client_certificate_required(self) -> grpc.ServerCredentials:
        """For port 15012: a handshake succeeds only with a certificate that the mesh's roots verify."""
        return self._credentials(lambda material: material.client_roots)

    def server_only(self) -> grpc.ServerCredentials:
        """For port 15013: nobody is asked for a certificate."""
        return self._credentials(None)

    def _credentials(self, roots: Callable[[TlsMaterial], bytes] | None) -> grpc.ServerCredentials:
        used = self._material

        def configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
            return grpc.ssl_server_certificate_configuration(
                ((material.key.reveal(), material.certificate_chain),), roots(material) if roots else None
            )

        def changed() -> grpc.ServerCertificateConfiguration | None:
            # gRPC asks before each handshake, from a thread of its own. None keeps the parsed one.
            nonlocal used
            current = self._material
            if current is used:
                return None
            used = current
            return configuration(current)

        return grpc.dynamic_ssl_server_credentials(
            configuration(used), changed, require_client_authentication=roots is not None
        )
