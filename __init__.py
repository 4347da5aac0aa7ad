"""tersor: a compiler for trained neural networks."""
