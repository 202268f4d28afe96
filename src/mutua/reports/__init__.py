"""What people are shown: tables from what an Envoy or the cluster says."""
