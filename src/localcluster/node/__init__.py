"""The node: runs the pods that the API describes."""
