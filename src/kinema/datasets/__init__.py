"""Data to train on: one format, the readers of all others, and checks before time is spent."""
