"""The transformers engine, one file for each thing it does."""

from kinema.engines.hf.engine import HFEngine

__all__ = ["HFEngine"]
