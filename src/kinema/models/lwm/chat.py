"""A loaded Large World Model that answers prompts about frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import NDArray

from kinema.errors import MissingCapability, ModelError
from kinema.messages import Prompt, SamplingParams
from kinema.models.lwm.checkpoint import Files, configure, load_decoder, load_vqgan, open_params
from kinema.models.lwm.config import LWMConfig
from kinema.models.lwm.frames import FrameCoder
from kinema.models.lwm.generate import PickWords, run, settings_of
from kinema.models.lwm.llama import Decoder
from kinema.models.lwm.mesh import batch_multiple, make_mesh
from kinema.models.lwm.prompt import (
    FrameEnds,
    LaidOut,
    Layout,
    Tokenizer,
    frame_block,
    lay_out,
    words,
)
from kinema.models.lwm.tokenizer import load_tokenizer


@dataclass(frozen=True, kw_only=True)
class Style:
    """Choices that the original made silently, by name."""

    layout: Layout = "trained"
    """One beginning-of-sequence token as trained, or five as the last release."""
    frame_ends: FrameEnds = "trained"
    """Inner frames end as trained, or all like the last one, as the release did."""


@dataclass(frozen=True, eq=False)
class LWM:
    """Decoder, weights, tokenizer and, where the model sees, the VQGAN."""

    decoder: Decoder
    params: Any
    tokenizer: Tokenizer
    coder: FrameCoder | None
    style: Style = Style()

    def num_tokens(self, prompt: Prompt, num_frames: Sequence[int]) -> int:
        """Length of a prompt with clips of so many frames, without looking at a pixel."""
        size = self.seeing.config.tokens_per_frame + 1 if num_frames else 0
        blocks = [words([0] * n * size) for n in num_frames]
        return len(lay_out(prompt, blocks, self.tokenizer, layout=self.style.layout))

    def lay_out(
        self, prompts: Sequence[Prompt], clips: Sequence[Sequence[NDArray[np.uint8]]]
    ) -> list[LaidOut]:
        """Each prompt and its clips ``uint8[T, H, W, 3]`` as ids; all frames are encoded at once.

        Raises:
            MissingCapability: there are frames and the model is text-only.
            UsageError: placeholders and clips do not correspond.
        """
        every = [clip for of in clips for clip in of]
        codes = iter(self.seeing.encode(every) if every else [])
        return [
            lay_out(
                prompt,
                [self._block(next(codes)) for _ in of],
                self.tokenizer,
                layout=self.style.layout,
            )
            for prompt, of in zip(prompts, clips, strict=True)
        ]

    def answer(
        self,
        prompts: Sequence[LaidOut],
        params: Sequence[SamplingParams],
        *,
        every: int | None = None,
    ) -> Iterator[list[list[int]]]:
        """Yield the answers' ids so far, each ``every`` tokens and at the end.

        Rows that only fill up the mesh are added and taken away here.

        Raises:
            ContextTooLong: a prompt and its answer exceed the model.
        """
        missing = -len(prompts) % batch_multiple(self.decoder.mesh)
        filled, wanted = [*prompts, *[prompts[-1]] * missing], [*params, *[params[-1]] * missing]
        settings = settings_of(wanted, self.decoder)
        picks = PickWords(self.tokenizer.eos_id)
        for added in run(self.decoder, picks, self.params, filled, settings, every=every):
            yield [self._trim(row, p) for row, p in zip(added.tolist(), params, strict=False)]

    def frames_that_fit(self, excess: int, num_frames: int) -> int | None:
        """Frames that are left when so many give way that ``excess`` tokens are saved.

        None when none is left, or there are no frames.
        """
        if not num_frames:
            return None
        per_frame = self.seeing.config.tokens_per_frame + 1
        left = num_frames - -(-excess // per_frame)
        return left if left > 0 else None

    def _trim(self, row: list[int], params: SamplingParams) -> list[int]:
        """A row's own tokens: up to its end token or its own limit."""
        row = row[: params.max_new_tokens]
        return row[: row.index(self.tokenizer.eos_id) + 1] if self.tokenizer.eos_id in row else row

    def _block(self, codes: NDArray[np.int32]) -> LaidOut:
        num_codes = self.seeing.config.num_codes
        return frame_block(codes, num_codes=num_codes, ends=self.style.frame_ends)

    @property
    def seeing(self) -> FrameCoder:
        """What turns frames into codes and back.

        Raises:
            MissingCapability: the checkpoint is text-only, or has no VQGAN.
        """
        if self.coder is None:
            raise MissingCapability(
                "This LWM checkpoint is text-only and can neither look at frames nor draw them.",
                hint="Ask without a video, or give a vision checkpoint and its vqgan file.",
            )
        return self.coder


def load_lwm(
    files: Files,
    *,
    config: LWMConfig | None = None,
    mesh: str = "1,1,-1,1",
    devices: Sequence[jax.Device] | None = None,
    dtype: DTypeLike = jnp.float32,
    style: Style = Style(),
) -> LWM:
    """Load a checkpoint onto the devices of a mesh.

    Small files are read first, so that a missing or wrong one is known at once.

    Args:
        files: what the checkpoint is made of.
        config: sizes; read off the files when None.
        mesh: ``dp,fsdp,tp,sp``, see :mod:`kinema.models.lwm.mesh`.
        devices: what the mesh is made of; all of this machine when None.
        dtype: number format of the decoder's weights and arithmetic.
        style: prompt layout and frame ends.

    Raises:
        ModelNotFound: a file is missing; it is named.
        ModelError: a file is damaged, or they do not belong together.
        UsageError: the mesh does not fit the devices or the model.
    """
    placed = make_mesh(mesh, devices=devices)
    tokenizer = load_tokenizer(files.tokenizer)
    tensors = open_params(files.params)
    config = configure(tensors, files, config)
    if (devices or jax.devices())[0].platform == "cpu":
        # A scan would copy each layer's weights out of the stack at every token.
        config = replace(config, scan_layers=False)
    if tokenizer.vocab_size > config.vocab_size:
        raise ModelError(
            f"transformer/wte/embedding has {config.vocab_size} text tokens and the tokenizer "
            f"has {tokenizer.vocab_size}.",
            hint="The params and the tokenizer are not from the same model.",
        )
    coder = _load_coder(files, config)
    params = load_decoder(tensors, config, mesh=placed, dtype=dtype)
    return LWM(Decoder(config, jnp.dtype(dtype), placed), params, tokenizer, coder, style)


def _load_coder(files: Files, config: LWMConfig) -> FrameCoder | None:
    if files.vqgan is None or not config.sees:
        return None
    coder = FrameCoder(*load_vqgan(files.vqgan))
    needed = coder.config.num_codes + 2
    if needed > config.vision_vocab_size:
        raise ModelError(
            f"transformer/vte/embedding has {config.vision_vocab_size} vision tokens and the VQGAN "
            f"needs {needed}: {needed - 2} codes and two frame ends.",
            hint="The params and the vqgan file are not from the same model.",
        )
    return coder
