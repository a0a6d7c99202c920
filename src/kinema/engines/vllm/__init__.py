"""The vLLM engine, one file for each thing it does."""

from kinema.engines.vllm.engine import VLLMEngine

__all__ = ["VLLMEngine"]
