"""From one mode of mutual TLS to another, workload by workload: what stands in the way, and what to do next."""
