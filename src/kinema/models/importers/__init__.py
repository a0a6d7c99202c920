"""Foreign checkpoints to folders of ours, and back. Nothing here runs code from a checkpoint."""
