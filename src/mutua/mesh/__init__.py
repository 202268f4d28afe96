"""What users' objects mean together: objects to a frozen snapshot, and from it all that one proxy may depend on."""
