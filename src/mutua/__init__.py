"""The mesh: mutual TLS between pods, spoken in Istio's API, carried out by real Envoys."""
