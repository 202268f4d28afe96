"""The WebSocket side of the server: uvicorn's, for clients whose subprotocol has a name that is none by the RFC."""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.server import ServerProtocol


class _Handshake(ServerProtocol):
    def process_subprotocol(self, headers: Headers) -> None:
        """Leave the choice to the application: kubectl offers `SPDY/3.1+portforward.k8s.io`, which is no token
        (RFC 6455, section 11.3.4), and would be refused here."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = _Handshake(max_size=self.config.ws_max_size, logger=self.logger)
