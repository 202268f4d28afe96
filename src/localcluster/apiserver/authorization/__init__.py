"""Who may do what: Kubernetes' role-based access control."""
