"""What one Envoy is told. Pure."""
