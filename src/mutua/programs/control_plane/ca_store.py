"""Where the authority and its rollover are kept: one config map with the state, one secret with the keys."""

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from cryptography import x509

from mutua.ca import plugged_in, self_signed
from mutua.ca.authority import Authority
from mutua.ca.errors import AuthorityError
from mutua.ca.plugged_in import SigningFiles
from mutua.ca.rollover import Holding, Pod, Rollover
from mutua.secret import Secret
from mutua.system import keys
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeConflictError, KubeError, KubeNotFoundError
from mutua.system.kube_resources import CONFIG_MAPS, SECRETS, PatchType

PLUGGED_IN = "cacerts"
SELF_SIGNED = "istio-ca-secret"
SELF_SIGNED_TYPE = "istio.io/ca-root"
RECORD = "istio-ca-rotation"
"""Config map with the state (no secrets), and secret with the files of the authorities that the state names."""

STATE_KEY = "state"
REQUEST_KEY = "request"
_HELD = "held."
_MAX_KEY = 253
_NOTHING_YET = msgspec.json.encode(Rollover()).decode()


class Record(NamedTuple):
    """The config map, read."""

    state: Rollover
    text: str  # the state as it was stored
    request: str  # what `mutua ca rotate` asks for, "" = nothing
    holdings: Mapping[Pod, Holding]


class CaStore:
    """Reads and writes; every method raises KubeError."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace

    async def record(self) -> Record:
        """The state of the rollover; created when it is missing."""
        found = await self.kube.find(CONFIG_MAPS, RECORD, self.namespace)
        if found is None:
            body = self._object("ConfigMap", RECORD) | {"data": {STATE_KEY: _NOTHING_YET}}
            try:
                found = await self.kube.create(CONFIG_MAPS, body, self.namespace)
            except KubeConflictError:
                found = await self.kube.get(CONFIG_MAPS, RECORD, self.namespace)
        if not (found.get("data") or {}).get(STATE_KEY):
            found = await self.kube.patch(CONFIG_MAPS, RECORD, {"data": {STATE_KEY: _NOTHING_YET}}, self.namespace)
        return read_record(found)

    async def write_state(self, before: Record, state: Rollover, *, forget_holdings: bool = False) -> bool:
        """Commit a step; False if another replica was first. The request that was answered is removed with it."""
        text = msgspec.json.encode(state).decode()
        guard = {"op": "test", "path": f"/data/{STATE_KEY}", "value": before.text}
        operations: list[dict[str, Any]] = [guard, {"op": "replace", "path": f"/data/{STATE_KEY}", "value": text}]
        if before.request:
            operations.append({"op": "test", "path": f"/data/{REQUEST_KEY}", "value": before.request})
            operations.append({"op": "remove", "path": f"/data/{REQUEST_KEY}"})
        if forget_holdings:
            operations += [{"op": "remove", "path": f"/data/{_held_key(pod)}"} for pod in before.holdings]
        try:
            await self.kube.patch(CONFIG_MAPS, RECORD, operations, self.namespace, patch_type=PatchType.JSON)
        except KubeError as error:
            if error.status in (404, 409, 422):
                return False
            raise
        return True

    async def write_holdings(self, holdings: Mapping[Pod, Holding]) -> None:
        """Add what proxies said; other replicas' entries stay."""
        data = {
            key: f"{holding.roots} {holding.issuer}"
            for pod, holding in holdings.items()
            if len(key := _held_key(pod)) <= _MAX_KEY
        }
        if data:
            await self.kube.patch(CONFIG_MAPS, RECORD, {"data": data}, self.namespace)

    async def vault(self) -> dict[str, SigningFiles]:
        """The files of every authority that a rollover may need, by authority id."""
        found = await self._data(RECORD)
        grouped: dict[str, dict[str, bytes]] = {}
        for key, content in found.items():
            identifier, _, name = key.partition(".")
            grouped.setdefault(identifier, {})[name] = content
        vault: dict[str, SigningFiles] = {}
        for identifier, files in grouped.items():
            try:
                read = plugged_in.read(files, f"entry {identifier} of secret {RECORD}")
            except AuthorityError:
                continue  # half written by a replica that died; what the state names is always whole
            if read is not None:
                vault[identifier] = read
        return vault

    async def keep(self, identifier: str, files: SigningFiles) -> None:
        """Put an authority's files into the vault."""
        data = {f"{identifier}.{name}": _encoded(content) for name, content in files.as_files().items()}
        if not files.revoked:
            data[f"{identifier}.{plugged_in.CRL_FILE}"] = None
        try:
            await self.kube.patch(SECRETS, RECORD, {"data": data}, self.namespace)
        except KubeNotFoundError:
            body = self._object("Secret", RECORD) | {
                "type": "Opaque",
                "data": {key: value for key, value in data.items() if value is not None},
            }
            try:
                await self.kube.create(SECRETS, body, self.namespace)
            except KubeConflictError:
                await self.kube.patch(SECRETS, RECORD, {"data": data}, self.namespace)

    async def keep_only(self, *identifiers: str) -> None:
        """Remove every other authority's files: a retired key is not to be found anywhere."""
        stale = [key for key in await self._data(RECORD) if key.partition(".")[0] not in identifiers]
        if stale:
            await self.kube.patch(SECRETS, RECORD, {"data": dict.fromkeys(stale)}, self.namespace)

    async def plugged_in(self) -> SigningFiles | None:
        """What the secret `cacerts` holds; None if there is none. Raises AuthorityError if it is incomplete."""
        secret = await self.kube.find(SECRETS, PLUGGED_IN, self.namespace)
        if secret is None:
            return None
        files = plugged_in.read(_decoded(secret), f"secret {PLUGGED_IN}")
        if files is None:
            raise AuthorityError(f"secret {PLUGGED_IN} is incomplete: it holds none of an authority's files")
        return files

    async def self_signed(self, trust_domain: str, now: datetime) -> SigningFiles:
        """The mesh's own root from `istio-ca-secret`; the first replica makes it, the others use what was made."""
        stored = await self.kube.find(SECRETS, SELF_SIGNED, self.namespace)
        if stored is None:
            body = self._object("Secret", SELF_SIGNED) | {
                "type": SELF_SIGNED_TYPE,
                "data": _self_signed_data(new_root(trust_domain, now)),
            }
            try:
                stored = await self.kube.create(SECRETS, body, self.namespace)
            except KubeConflictError:
                stored = await self.kube.get(SECRETS, SELF_SIGNED, self.namespace)
        files = _decoded(stored)
        try:
            # `root-cert.pem` may be stale after a renewal (Istio's rotator leaves it), so the certificate is the root.
            certificate, key = files["ca-cert.pem"], files["ca-key.pem"]
        except KeyError as error:
            raise AuthorityError(f"secret {SELF_SIGNED} lacks {error}; delete it to have a new root made") from error
        return SigningFiles(certificate, Secret(key), b"", certificate)

    async def write_self_signed(self, files: SigningFiles) -> None:
        """Make a new root of ours the one that `istio-ca-secret` holds."""
        data = {"data": _self_signed_data(files)}
        try:
            await self.kube.patch(SECRETS, SELF_SIGNED, data, self.namespace)
        except KubeNotFoundError:
            body = self._object("Secret", SELF_SIGNED) | {"type": SELF_SIGNED_TYPE} | data
            await self.kube.create(SECRETS, body, self.namespace)

    async def _data(self, name: str) -> dict[str, bytes]:
        found = await self.kube.find(SECRETS, name, self.namespace)
        return {} if found is None else _decoded(found)

    def _object(self, kind: str, name: str) -> dict[str, Any]:
        metadata = {"name": name, "namespace": self.namespace, "labels": {"app": "istiod"}}
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def new_root(trust_domain: str, now: datetime) -> SigningFiles:
    """A new key and its self-signed root."""
    key = keys.generate()
    made: Authority = self_signed.authority(key, trust_domain, now, x509.random_serial_number())
    root = made.root_bundle.encode()
    return SigningFiles(root, keys.to_pem(key), b"", root)


def read_record(config_map: Mapping[str, Any]) -> Record:
    """The rollover as the config map holds it. A state that cannot be read counts as none."""
    data: Mapping[str, str] = config_map.get("data") or {}
    text = data.get(STATE_KEY, "")
    try:
        state = msgspec.json.decode(text, type=Rollover) if text else Rollover()
    except msgspec.DecodeError:
        state = Rollover()
    holdings = {}
    for key, value in data.items():
        if key.startswith(_HELD):
            namespace, _, pod = key.removeprefix(_HELD).partition(".")
            roots, _, issuer = value.partition(" ")
            holdings[(namespace, pod)] = Holding(roots=roots, issuer=issuer)
    return Record(state, text, data.get(REQUEST_KEY, ""), holdings)


def _held_key(pod: Pod) -> str:
    # A namespace's name has no dot, so the first one parts the two.
    return f"{_HELD}{pod[0]}.{pod[1]}"


def _self_signed_data(files: SigningFiles) -> dict[str, str]:
    content = files.as_files() | {"cert-chain.pem": b"", "key.pem": b""}
    return {name: base64.b64encode(value).decode() for name, value in content.items()}


def _encoded(content: bytes) -> str | None:
    return base64.b64encode(content).decode()


def _decoded(secret: Mapping[str, Any]) -> dict[str, bytes]:
    return {name: base64.b64decode(text) for name, text in (secret.get("data") or {}).items()}
