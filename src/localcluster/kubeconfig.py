"""The file that points kubectl at a cluster."""

import base64
import json
from pathlib import Path
from typing import Any

from localcluster.paths import ClusterPaths, write_atomically


def document(name: str, port: int, ca_certificate: bytes, token: str) -> dict[str, Any]:
    """A kubeconfig (v1 Config) for the API on the host's loopback `port`; cluster, user and context bear `name`.

    `ca_certificate` is PEM; `token` is the bearer token, so the result is a secret.
    """
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": f"https://127.0.0.1:{port}",
                    "certificate-authority-data": base64.b64encode(ca_certificate).decode(),
                },
            }
        ],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
        "preferences": {},
    }


def write(paths: ClusterPaths, port: int) -> Path:
    """Write the cluster's kubeconfig (0600) from its PKI and return its path. The context is the cluster's name."""
    content = document(
        paths.name,
        port,
        paths.ca_certificate.read_bytes(),
        paths.admin_token.read_text().strip(),
    )
    # JSON, which is YAML too: every string is quoted, so that a cluster may be called "n", "on" or "1e3".
    write_atomically(paths.kubeconfig, json.dumps(content, indent=2).encode() + b"\n")
    return paths.kubeconfig
