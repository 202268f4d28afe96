"""Our clients: Kubernetes, CA, Envoy admin, processes, files, clock, logs."""
