"""The control plane: one process that watches the cluster, issues certificates and tells every Envoy what to do."""
