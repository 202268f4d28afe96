"""Secrets of workloads' namespaces, each followed for as long as somebody who may have it asks for it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from mutua.api import decode, kinds
from mutua.api.core import Secret as SecretObject
from mutua.secret import Secret
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError
from mutua.system.kube_resources import SECRETS, EventType
from mutua.system.logs import Log

RETRY_SECONDS = 5.0

_LOG = Log("credentials")


class Followed:
    """One secret as it is now. `data` None: there is none, or it cannot be read, as `problem` says."""

    def __init__(self, namespace: str, name: str, *, optional: bool) -> None:
        self.namespace, self.name = namespace, name
        self._say = _LOG.debug if optional else _LOG.warn
        self.data: Mapping[str, Secret] | None = None
        self.problem = ""
        self.is_known = asyncio.Event()  # it was looked for at least once
        self._waiting: set[asyncio.Event] = set()

    def take(self, data: Mapping[str, Secret] | None, problem: str = "") -> None:
        """What it is from now on."""
        if problem and problem != self.problem:
            self._say("a secret cannot be given to workloads", secret=f"{self.namespace}/{self.name}", problem=problem)
        changed = data != self.data or problem != self.problem or not self.is_known.is_set()
        self.data, self.problem = data, problem
        self.is_known.set()
        if changed:
            for event in self._waiting:
                event.set()

    def tell(self, event: asyncio.Event) -> None:
        """Set `event` at every change."""
        self._waiting.add(event)

    def forget(self, event: asyncio.Event) -> None:
        """No longer."""
        self._waiting.discard(event)


class Credentials:
    """Follows secrets by (namespace, name). Whoever asks has been authorised for that namespace before.

    `role` is the ClusterRole that a namespace binds to let the control plane read its secrets.
    """

    def __init__(self, kube: KubeClient, role: str) -> None:
        self._kube = kube
        self._role = role
        self._followed: dict[tuple[str, str], tuple[Followed, asyncio.Task[None]]] = {}
        self._users: dict[tuple[str, str], int] = {}

    @asynccontextmanager
    async def follow(
        self, namespace: str, name: str, changed: asyncio.Event, *, optional: bool = False
    ) -> AsyncIterator[Followed]:
        """The secret for the length of the block; `changed` is set whenever it is another.

        Nothing is said about one that is `optional` and not there.
        """
        key = (namespace, name)
        if key not in self._followed:
            made = Followed(namespace, name, optional=optional)
            self._followed[key] = (
                made,
                asyncio.create_task(self._keep(made), name=f"follow secret {namespace}/{name}"),
            )
        followed, task = self._followed[key]
        self._users[key] = self._users.get(key, 0) + 1
        followed.tell(changed)
        try:
            yield followed
        finally:
            followed.forget(changed)
            self._users[key] -= 1
            if not self._users[key]:
                # What nobody uses any more is not kept in memory.
                del self._users[key], self._followed[key]
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _keep(self, followed: Followed) -> None:
        while True:
            try:
                await self._watch(followed)
            except KubeError as error:
                hint = f"; bind ClusterRole {self._role} to the control plane there" if error.status == 403 else ""
                followed.take(followed.data, f"it cannot be read: {error.message}{hint}")
            await asyncio.sleep(RETRY_SECONDS)

    async def _watch(self, followed: Followed) -> None:
        selector = f"metadata.name={followed.name}"
        async for event in self._kube.watch(SECRETS, followed.namespace, field_selector=selector):
            if event.type is EventType.DELETED or not event.objects:
                followed.take(None, "there is no such secret")
                continue
            decoded = decode.from_json(kinds.SECRET, bytes(event.objects[0]))
            if isinstance(decoded.value, SecretObject):
                followed.take(decoded.value.data)
            else:
                followed.take(None, "its data is not base64")
