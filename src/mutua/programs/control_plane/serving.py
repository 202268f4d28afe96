"""The control plane's own certificate: signed by its own authority, renewed before it ends, used by all its servers."""

from datetime import datetime, timedelta

from cryptography import x509

from mutua.ca import issue, rotation
from mutua.ca.authority import Authority
from mutua.ca.errors import AuthorityError
from mutua.secret import Secret
from mutua.servers import http
from mutua.servers.credentials import ServingTls, TlsMaterial
from mutua.system import clock, keys
from mutua.system.logs import Log

TTL = timedelta(days=90)
SHORTEST_PAUSE = timedelta(seconds=10)
"""An authority that is about to end gives certificates that are due at once."""

_LOG = Log("serving")


class ServingCertificate:
    """Holds what the gRPC servers and the webhook server present. `keep_fresh` renews it for ever."""

    def __init__(self, authority: Authority, dns_names: tuple[str, ...], now: datetime) -> None:
        self._authority = authority
        self._dns_names = dns_names
        self._issued, self._key = self._issue(now)
        self._issued_at = now
        self.grpc = ServingTls(self._material())
        self.webhooks = http.ServingCertificate(self._chain(), self._key.reveal())

    def follow(self, authority: Authority) -> None:
        """Present a certificate of this authority, and believe clients under its roots, from the next handshake on."""
        if authority.id != self._authority.id:
            self._authority = authority
            self._renew()

    async def keep_fresh(self) -> None:
        """Renews at 80 % of the certificate's life; new handshakes use the new one at once."""
        while True:
            now = clock.now()
            pause = max(rotation.delay(self._issued_at, self._issued.not_after, now), SHORTEST_PAUSE)
            await clock.sleep_until(now + pause)
            # The authority may have brought a new certificate meanwhile.
            if rotation.delay(self._issued_at, self._issued.not_after, clock.now()) > timedelta(0):
                continue
            try:
                self._renew()
            except AuthorityError as error:
                _LOG.error("the serving certificate cannot be renewed", problem=error)

    def _renew(self) -> None:
        now = clock.now()
        self._issued, self._key = self._issue(now)
        self._issued_at = now
        self.grpc.replace(self._material())
        self.webhooks.replace(self._chain(), self._key.reveal())
        _LOG.info("serving certificate renewed", serial=f"{self._issued.serial:x}", names=",".join(self._dns_names))

    def _issue(self, now: datetime) -> tuple[issue.Issued, Secret]:
        key = keys.generate()
        issued = issue.server_certificate(
            self._dns_names, key.public_key(), self._authority, now, x509.random_serial_number(), TTL
        )
        return issued, keys.to_pem(key)

    def _chain(self) -> bytes:
        return "".join(self._issued.chain[:-1]).encode()

    def _material(self) -> TlsMaterial:
        return TlsMaterial(self._chain(), self._key, self._issued.chain[-1].encode())
