"""The demonstration: a mesh on this machine, and proofs that it encrypts, authenticates, refuses and authorizes."""
