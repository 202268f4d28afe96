"""A Kubernetes-compatible cluster on one Linux machine: no root, no containers, nothing left behind."""
