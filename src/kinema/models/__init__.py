"""Architectures of our own, and the importers that fill them from other checkpoints."""
