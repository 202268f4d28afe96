"""Who may talk to whom: one connection judged against a snapshot, with the reason."""
