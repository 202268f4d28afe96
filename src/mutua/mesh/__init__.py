"""What the objects mean: from accepted objects to one frozen snapshot, and from it to what one proxy may see."""
