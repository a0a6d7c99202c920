"""The vLLM engine, one file for each thing it does."""
