"""What is said, and when: speech models through transformers' own pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import pipeline

from kinema.engines.device import pick_device
from kinema.engines.hf.errors import translated
from kinema.engines.hf.loading import quiet
from kinema.errors import ModelError
from kinema.families.weights import check_weights

_CHUNK_SECONDS = 30.0


class Transcriber:
    """Whisper, or any model of transformers' speech recognition that tells when words are said.

    Args:
        folder: a checkpoint in Hugging Face layout, with safetensors weights.

    Raises:
        ModelError: the folder is not whole, or holds no speech model.
    """

    def __init__(self, folder: Path) -> None:
        check_weights(folder, verify=False)
        try:
            with quiet():
                self._pipeline = pipeline(
                    "automatic-speech-recognition",
                    model=str(folder),
                    device=pick_device("auto"),
                    # Word times are read from attention, which other implementations do not give.
                    model_kwargs={"use_safetensors": True, "attn_implementation": "eager"},
                )
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise ModelError(
                f"{folder.name} holds no speech model that can be loaded.",
                hint="Give a Whisper checkpoint: --transcribe openai/whisper-small, or a folder.",
            ) from problem

    def words(self, samples: NDArray[np.int16], *, rate: int) -> Iterator[tuple[str, float, float]]:
        """The words in int16[S] samples, each with the seconds at which it begins and ends.

        Raises:
            ModelError: the model cannot tell when words are said.
        """
        if not len(samples):
            return
        length = len(samples) / rate
        raw = samples.astype(np.float32) / 2**15
        # Whisper goes on by itself after 30 s; others are given pieces that overlap.
        options: dict[str, Any] = {"chunk_length_s": _CHUNK_SECONDS}
        if self._pipeline.type == "seq2seq_whisper":
            options = {"generate_kwargs": {"num_beams": 1}}
        with quiet(), translated():
            heard = self._pipeline(
                {"raw": raw, "sampling_rate": rate}, return_timestamps="word", **options
            )
        for chunk in heard["chunks"]:
            start, end = chunk["timestamp"]
            start = min(max(0.0, start or 0.0), length)
            if text := chunk["text"].strip():
                yield text, start, min(max(start, length if end is None else end), length)
