"""What becomes of a policy, told on the policy itself: for how many pods it decides, and on how many proxies it is."""
