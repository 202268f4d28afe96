"""What gets started: wiring only."""
