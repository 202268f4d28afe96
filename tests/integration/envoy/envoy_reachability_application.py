"""A pod's application on the ports of Istio's reachability tests: HTTP, HTTP/2, TLS of its own, bytes."""

import asyncio
import json
import ssl
import sys
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import grpc

EVERYWHERE = "0.0.0.0"  # noqa: S104


class Mirror(BaseHTTPRequestHandler):
    """Answers with the headers that it saw; a WebSocket's handshake with its consent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Any request."""
        is_upgrade = "upgrade" in (self.headers.get("connection") or "").lower()
        body = b"" if is_upgrade else json.dumps([name.lower() for name in self.headers]).encode()
        self.send_response(101 if is_upgrade else 200)
        if is_upgrade:
            self.send_header("connection", "upgrade")
            self.send_header("upgrade", "websocket")
        else:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = is_upgrade

    def log_message(self, *_: object) -> None:
        """Silence."""


class AnyMethod(grpc.GenericRpcHandler):
    """Answers every gRPC method with the request's bytes."""

    def service(self, handler_call_details: object) -> grpc.RpcMethodHandler:
        """An echo."""
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes back, as they come, marked as ours."""
    try:
        while data := await reader.read(4096):
            writer.write(b"echo " + data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


async def main(certificate: str) -> None:
    """Serves until killed."""
    for port in (18080, 18083):
        Thread(target=ThreadingHTTPServer((EVERYWHERE, port), Mirror).serve_forever, daemon=True).start()
    secured = ThreadingHTTPServer((EVERYWHERE, 18443), Mirror)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secured.socket = context.wrap_socket(secured.socket, server_side=True, do_handshake_on_connect=False)
    Thread(target=secured.serve_forever, daemon=True).start()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(AnyMethod(),))
    for port in (17070, 18085):
        server.add_insecure_port(f"{EVERYWHERE}:{port}")
    server.start()
    for port in (19090, 19092):
        await asyncio.start_server(echo, EVERYWHERE, port)
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1]))
