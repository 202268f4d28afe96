"""What to send next: (state, request or new resources) to (state, replies). Pure."""
