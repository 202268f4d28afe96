"""A pod's application: HTTP/1.1 on 8080 and 8081, bytes echoed on 9000, greetings on 9001 and 9002, gRPC on 9090."""

import asyncio
import json
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import grpc

EVERYWHERE = "0.0.0.0"  # noqa: S104


class Mirror(BaseHTTPRequestHandler):
    """Answers every request with what it saw of it."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """The request as JSON."""
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        body = json.dumps({"method": self.command, "path": self.path, "headers": headers}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = do_OPTIONS = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Silence: Envoy's log is what the tests read."""


class AnyMethod(grpc.GenericRpcHandler):
    """Answers every gRPC method with the request's bytes."""

    def service(self, handler_call_details: object) -> grpc.RpcMethodHandler:
        """An echo."""
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes back, as they come."""
    while data := await reader.read(4096):
        writer.write(b"echo " + data)
        await writer.drain()
    writer.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A protocol in which the server speaks first."""
    writer.write(b"welcome")
    await writer.drain()
    await reader.read()
    writer.close()


async def main() -> None:
    """Serve all of it."""
    for port in (8080, 8081):
        Thread(target=ThreadingHTTPServer((EVERYWHERE, port), Mirror).serve_forever, daemon=True).start()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((AnyMethod(),))
    server.add_insecure_port(f"{EVERYWHERE}:9090")
    server.start()
    listener = await asyncio.start_server(echo, EVERYWHERE, 9000)
    for port in (9001, 9002):
        await asyncio.start_server(greet, EVERYWHERE, port)
    await listener.serve_forever()


asyncio.run(main())
