"""Architectures of our own, and readers of foreign checkpoints."""
