"""Where the cluster is and who we are: kubeconfig files, contexts, exec plugins, the pod's own service account."""

import asyncio
import datetime
import json
import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import yaml
from lightkube.config import client_adapter, kubeconfig
from lightkube.config.models import User, UserExec
from lightkube.core.exceptions import ConfigError

from mutua.errors import InvalidInputError
from mutua.system import tls

_EXEC_API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_EXEC_EXPIRY_MARGIN = datetime.timedelta(seconds=30)
_FILE_FIELDS = {
    "cluster": ("certificate-authority",),
    "user": ("client-certificate", "client-key", "tokenFile"),
}


class KubeConfigError(InvalidInputError):
    """No usable description of a cluster was found."""


def load(path: str = "", context: str = "", environment: Mapping[str, str] = os.environ) -> kubeconfig.SingleConfig:
    """The one cluster, user and namespace to use.

    `path` and `context` are the user's `--kubeconfig` and `--context`, "" if not given. Order, as kubectl: the path,
    the files of $KUBECONFIG (merged, the first that says something wins), ~/.kube/config, the pod's service account.
    Raises KubeConfigError.
    """
    files = [Path(path)] if path else _default_files(environment)
    explicit = bool(path or environment.get("KUBECONFIG"))
    present = [file for file in files if file.is_file()]
    if path and not present:
        raise KubeConfigError(
            f"the kubeconfig {path} {'is no file' if files[0].exists() else 'does not exist'}",
            hint="give the path of an existing file, or start a local cluster with `mutua up`",
        )
    if not present:
        if not explicit and Path(kubeconfig.SERVICE_ACCOUNT, "token").is_file():
            return in_cluster()
        looked_at = ", ".join(str(file) for file in files)
        raise KubeConfigError(
            f"no kubeconfig found (looked at {looked_at})",
            hint="run `mutua up` and then the `export KUBECONFIG=...` line it prints, or pass --kubeconfig",
        )
    merged = _merge(present)
    try:
        chosen = kubeconfig.KubeConfig.from_dict(merged, fname=present[0]).get(context or None)
    except ConfigError as error:
        known = ", ".join(sorted(entry["name"] for entry in merged["contexts"])) or "none"
        raise KubeConfigError(
            f"{present[0]}: {error}", hint=f"contexts there: {known}; choose one with --context"
        ) from error
    except KeyError as error:
        raise KubeConfigError(
            f"{present[0]} is not a usable kubeconfig: it names {error}, which is not there",
            hint="check it with `kubectl config view`",
        ) from error
    except (TypeError, msgspec.ValidationError) as error:
        raise KubeConfigError(
            f"{present[0]} is not a usable kubeconfig: {error}", hint="check it with `kubectl config view`"
        ) from error
    if chosen is None:
        raise KubeConfigError(f"{present[0]} names no current context", hint="choose one with --context")
    return chosen


def in_cluster() -> kubeconfig.SingleConfig:
    """The pod's own service account and the API server that its environment names. Raises KubeConfigError."""
    try:
        chosen = kubeconfig.KubeConfig.from_service_account().get()
    except (ConfigError, KeyError) as error:
        raise KubeConfigError(
            f"this process does not run in a pod with a service account: {error}",
            hint="outside a cluster, pass --kubeconfig",
        ) from error
    if chosen is None:
        raise KubeConfigError("the service account names no cluster")
    return chosen


def http_parameters(config: kubeconfig.SingleConfig) -> dict[str, Any]:
    """Keyword arguments for httpx2.AsyncClient: base URL, TLS trust, authentication. Raises KubeConfigError."""
    host = httpx2.URL(config.cluster.server).host
    user = config.user
    plugin = user.exec if user and not (user.token_file or user.token) else None
    try:
        verify = (
            tls.as_kubernetes(client_adapter.verify_cluster(config.cluster, user or User(), config.abs_file))
            if config.cluster.server.startswith("https:")
            else True
        )
        auth = ExecPluginAuth(plugin, config.cluster.server) if plugin else client_adapter.user_auth(user)
    except (ConfigError, OSError, ValueError) as error:
        raise KubeConfigError(
            f"the credentials of context {config.context_name!r} cannot be used: {error}",
            hint="check the user and cluster entries with `kubectl config view`",
        ) from error
    return {
        "base_url": config.cluster.server,
        "verify": verify,
        "auth": auth,
        # A proxy from the environment can reach neither this machine's loopback nor a cluster's inside.
        "trust_env": not (host in ("localhost", "127.0.0.1", "::1") or config.fname is None),
    }


class ExecPluginAuth(httpx2.Auth):
    """A bearer token from a credential plugin, kept until it expires or is refused.

    Source: client.authentication.k8s.io/v1.
    """

    def __init__(self, plugin: UserExec, server: str) -> None:
        if plugin.apiVersion not in _EXEC_API_VERSIONS:
            raise ConfigError(f"exec plugin API version {plugin.apiVersion} is not supported")
        self._plugin = plugin
        self._server = server
        self._token = ""
        self._expires: datetime.datetime | None = None

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Adds the token; asks the plugin again once if the server refuses it."""
        if self._token and not self._expired():
            request.headers["Authorization"] = f"Bearer {self._token}"
            response = yield request
            if response.status_code != httpx2.codes.UNAUTHORIZED:
                return
        await self._refresh()
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request

    def _expired(self) -> bool:
        return self._expires is not None and datetime.datetime.now(datetime.UTC) >= self._expires - _EXEC_EXPIRY_MARGIN

    async def _refresh(self) -> None:
        plugin = self._plugin
        info = {
            "apiVersion": plugin.apiVersion,
            "kind": "ExecCredential",
            "spec": {"interactive": False, "cluster": {"server": self._server}},
        }
        environment = dict(os.environ) | {variable.name: variable.value for variable in plugin.env or []}
        environment["KUBERNETES_EXEC_INFO"] = json.dumps(info)
        try:
            process = await asyncio.create_subprocess_exec(
                plugin.command,
                *(plugin.args or []),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise KubeConfigError(
                f"the credential plugin {plugin.command!r} cannot be started: {error.strerror}",
                hint=plugin.installHint or "install the program that the kubeconfig's user entry names",
            ) from error
        output, complaint = await process.communicate()
        if process.returncode != 0:
            said = complaint.decode(errors="replace").strip()
            raise KubeConfigError(
                f"the credential plugin {plugin.command!r} ended with code {process.returncode}: {said}",
                hint="log in again with your cluster provider's tool",
            )
        try:
            status = json.loads(output)["status"]
            token, expiry = status["token"], status.get("expirationTimestamp")
        except (ValueError, KeyError, TypeError) as error:
            raise KubeConfigError(
                f"the credential plugin {plugin.command!r} gave no token",
                hint="only plugins that answer with status.token are supported",
            ) from error
        self._token = token
        self._expires = datetime.datetime.fromisoformat(expiry) if expiry else None


def _default_files(environment: Mapping[str, str]) -> list[Path]:
    named = [Path(part) for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [Path("~/.kube/config").expanduser()]


def _merge(files: list[Path]) -> dict[str, Any]:
    """One kubeconfig from several; the first entry of a name wins, and so does the first current context."""
    merged: dict[str, Any] = {"clusters": [], "contexts": [], "users": []}
    for file in files:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, yaml.YAMLError) as error:
            mark = getattr(error, "problem_mark", None)
            why = f"line {mark.line + 1} is no YAML" if mark else getattr(error, "strerror", "") or str(error)
            raise KubeConfigError(f"{file} cannot be read: {why}", hint="is it a kubeconfig?") from error
        if not isinstance(content, dict):
            raise KubeConfigError(f"{file} is not a kubeconfig: the document is not a mapping", "is it a kubeconfig?")
        if content.get("current-context"):
            merged.setdefault("current-context", content["current-context"])
        for plural, singular in (("clusters", "cluster"), ("contexts", "context"), ("users", "user")):
            known = {entry["name"] for entry in merged[plural]}
            entries = content.get(plural) or []
            if not isinstance(entries, list) or not all(
                isinstance(entry, dict) and isinstance(entry.get(singular) or {}, dict) for entry in entries
            ):
                raise KubeConfigError(f"{file} is not a kubeconfig: {plural} is no list of them", "is it a kubeconfig?")
            for entry in entries:
                if entry.get("name") in known:
                    continue
                body = dict(entry.get(singular) or {})
                for field in _FILE_FIELDS.get(singular, ()):
                    if body.get(field):
                        body[field] = str(file.absolute().parent / body[field])
                merged[plural].append({"name": entry.get("name"), singular: body})
    return merged
