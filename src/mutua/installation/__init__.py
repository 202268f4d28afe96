"""What gets installed: profile and values in, manifests in the order of their application out."""
