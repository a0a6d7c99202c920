"""Our own architectures: what the weights of a checkpoint become."""
