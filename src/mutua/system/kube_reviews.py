"""Asking the API server what somebody else may do."""

from mutua.system.kube import KubeClient
from mutua.system.kube_resources import SUBJECT_ACCESS_REVIEWS


async def account_may(kube: KubeClient, namespace: str, account: str, verb: str, plural: str, name: str = "") -> bool:
    """Whether a service account may do `verb` with objects of the core group in its own namespace.

    `name` "" means all of them. Raises KubeError.
    """
    attributes = {"namespace": namespace, "verb": verb, "group": "", "resource": plural, "name": name}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "resourceAttributes": {key: value for key, value in attributes.items() if value},
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
        },
    }
    answer = await kube.create(SUBJECT_ACCESS_REVIEWS, body)
    return (answer.get("status") or {}).get("allowed") is True
