"""What is wrong, doubtful or without effect among all objects: checks, each a pure function of declared inputs."""
