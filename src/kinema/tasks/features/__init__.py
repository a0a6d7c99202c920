"""The verb ``features``: what a frozen tower sees, written to files once."""
