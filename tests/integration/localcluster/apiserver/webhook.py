"""A webhook over real TLS, for the tests of those who call one."""

import json
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from api_server import encoded
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Object = dict[str, Any]


class Webhook:
    """Answers reviews with `reply(request)`, or with the bytes `rubbish`; remembers the requests.

    Its certificate is for `host`.
    """

    def __init__(self, directory: Path, host: str = "hook.default.svc") -> None:
        self.requests: list[Object] = []
        self.reply: Callable[[Object], Object] = lambda request: {}
        self.rubbish: bytes | None = None
        certificate = self_signed(directory, host)
        self.ca_bundle = encoded(certificate.read_bytes())
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(review["request"])
                response = {"uid": review["request"]["uid"], "allowed": True, **outer.reply(review["request"])}
                about = {"apiVersion": review["apiVersion"], "kind": review["kind"]}
                body = json.dumps({**about, "response": response}).encode()
                if outer.rubbish is not None:
                    body = outer.rubbish
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(ConnectionError):  # who asked may have heard enough
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, directory / "hook.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def configuration(self, kind: str, name: str, **changes: Any) -> Object:
        """One webhook for creations and updates of config maps with the label `hook`."""
        client = {"service": {"name": "hook", "namespace": "default", "path": "/inject", "port": 443}}
        webhook = {
            "name": "hook.example.com",
            "clientConfig": {**client, "caBundle": self.ca_bundle},
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "resources": ["configmaps"],
                    "operations": ["CREATE", "DELETE"],
                }
            ],
            "objectSelector": {"matchExpressions": [{"key": "hook", "operator": "Exists"}]},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": 5,
            **changes,
        }
        group = "admissionregistration.k8s.io/v1"
        return {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "webhooks": [webhook]}


def self_signed(directory: Path, name: str) -> Path:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    (directory / "hook.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (directory / "hook.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return directory / "hook.crt"
