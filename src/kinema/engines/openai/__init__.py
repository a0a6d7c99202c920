"""The openai engine, one file for each thing it does."""
