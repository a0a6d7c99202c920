"""A small random Whisper in the classes of transformers, and a video that makes sounds."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
import transformers as T
from tokenizers.pre_tokenizers import ByteLevel

from support.clips import board

RATE = 16_000
_FPS = 5
_CONTROLS = (
    *("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>"),
    *("<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
)


def make_whisper(folder: Path) -> Path:
    """Write a checkpoint that hears letters at random, with their times."""
    alphabet = {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = T.WhisperTokenizerFast(vocab=alphabet, merges=[])
    times = [f"<|{i * 0.02:.2f}|>" for i in range(1501)]
    tokenizer.add_special_tokens({"additional_special_tokens": list(_CONTROLS)})
    tokenizer.add_tokens(times)
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in _CONTROLS}
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    config = T.WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=80,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_target_positions=64,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
    )
    letters = {alphabet[letter] for letter in "abcdefghijklmnopqrstuvwxyz\u0120"}
    torch.manual_seed(0)
    model = T.WhisperForConditionalGeneration(config)
    model.generation_config = T.GenerationConfig(
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        no_timestamps_token_id=ids["<|notimestamps|>"],
        alignment_heads=[[0, 0]],
        is_multilingual=False,
        max_length=60,
        max_initial_timestamp_index=50,
        suppress_tokens=sorted({*alphabet.values(), *ids.values()} - letters),
        prev_sot_token_id=ids["<|startofprev|>"],
        return_timestamps=False,
    )
    model.save_pretrained(folder)
    processor = T.WhisperProcessor(T.WhisperFeatureExtractor(), tokenizer)
    processor.save_pretrained(folder)
    return folder


def make_sounding(
    path: Path,
    *,
    seconds: float = 6.0,
    loud: tuple[float, float],
    options: dict[str, str] | None = None,
) -> Path:
    """Write boards at 5 frames a second, and a tone between two times, else silence."""
    moments = np.arange(round(seconds * RATE)) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * moments)
    tone[(moments < loud[0]) | (moments >= loud[1])] = 0
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=_FPS, options=options or {})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = output.add_stream("aac", rate=RATE, layout="mono")
        for i in range(round(seconds * _FPS)):
            output.mux(video.encode(av.VideoFrame.from_ndarray(board(i), format="rgb24")))
        output.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(
            tone[None].astype(np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = RATE
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return path
