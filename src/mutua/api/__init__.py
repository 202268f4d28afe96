"""What users write: typed objects of Kubernetes and Istio, how they are read, and the rules about one object alone."""
