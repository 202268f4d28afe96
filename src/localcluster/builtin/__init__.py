"""Programs behind well-known image names, for hosts that lack the real ones. Each is one file, run by its path."""
