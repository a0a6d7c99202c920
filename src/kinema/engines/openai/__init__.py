"""The openai engine, one file for each thing it does."""

from kinema.engines.openai.engine import OpenAIEngine

__all__ = ["OpenAIEngine"]
