"""The transformers engine, one file for each thing it does."""
