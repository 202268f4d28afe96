"""Asking the API server what a service account may do."""

import asyncio
import time

from mutua.spiffe import SpiffeId
from mutua.system.kube import KubeClient
from mutua.system.kube_resources import SUBJECT_ACCESS_REVIEWS

REMEMBERED_SECONDS = 30.0
REFUSALS_REMEMBERED_SECONDS = 2.0
MOST_REMEMBERED = 4096


class SecretReaders:
    """Who may read which secret of its own namespace. Source: Istio's credentials controller, which asks for `list`.

    An answer counts for a while, for that account and that secret alone: thousands of replicas that start together are
    one question.
    """

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self._answers: dict[tuple[str, str, str], tuple[float, bool]] = {}
        self._asking: dict[tuple[str, str, str], asyncio.Task[bool]] = {}

    async def __call__(self, identity: SpiffeId, secret: str) -> bool:
        """Whether the account may `list` secrets, or `get` this one. Raises KubeError if that cannot be found out."""
        key = (identity.namespace, identity.service_account, secret)
        until, allowed = self._answers.get(key, (0.0, False))
        if time.monotonic() < until:
            return allowed
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(*key))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        # One who asks may leave; the others want the answer all the same.
        return await asyncio.shield(task)

    async def _ask(self, namespace: str, account: str, secret: str) -> bool:
        allowed = await self._review(namespace, account, "list", "") or await self._review(
            namespace, account, "get", secret
        )
        if len(self._answers) >= MOST_REMEMBERED:
            self._answers.clear()
        valid = REMEMBERED_SECONDS if allowed else REFUSALS_REMEMBERED_SECONDS
        self._answers[namespace, account, secret] = (time.monotonic() + valid, allowed)
        return allowed

    async def _review(self, namespace: str, account: str, verb: str, name: str) -> bool:
        attributes = {"namespace": namespace, "verb": verb, "resource": "secrets"} | ({"name": name} if name else {})
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "resourceAttributes": attributes,
                "user": f"system:serviceaccount:{namespace}:{account}",
                "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            },
        }
        answer = await self._kube.create(SUBJECT_ACCESS_REVIEWS, body)
        return (answer.get("status") or {}).get("allowed") is True
