"""A Kubernetes API server over SQLite, for one machine."""
