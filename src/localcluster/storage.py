"""The storage class that every cluster has: folders on the node's disk."""

from typing import Any

PROVISIONER = "localcluster.io/folder"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def default_class() -> dict[str, Any]:
    """The StorageClass `local`: a volume is a folder, made for its claim and removed with it."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "local", "annotations": {DEFAULT_CLASS: "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }
