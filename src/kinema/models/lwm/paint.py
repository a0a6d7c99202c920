"""Images and videos from words: the vision head writes codes, the VQGAN turns them into pixels.

Two stages, as released: the first frame is drawn as an image, the rest continue it as a video. A
frame is its codes and a closing id, which is forced at its place. With guidance the prompt runs
beside an empty one, and logits move away from the empty one's.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from kinema.messages import SamplingParams
from kinema.models.lwm.chat import LWM
from kinema.models.lwm.generate import Settings, run, settings_of
from kinema.models.lwm.llama import Modality
from kinema.models.lwm.mesh import batch_multiple
from kinema.models.lwm.prompt import VISION_START, LaidOut, frame_block, words
from kinema.models.lwm.sampling import Choice, pick

SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How codes are picked in one stage."""

    temperature: float = 1.0
    top_k: int = 8192
    """Keep this many likeliest codes."""
    guidance: float = 1.0
    """How far to move away from what an empty prompt would draw; 1 is not at all."""


@dataclass(frozen=True)
class PickCodes:
    """Codes in frames; the first half of the rows has the prompt, the second has none."""

    frame_length: int
    """Codes of a frame and the id that closes it."""
    end_of_frame: int
    modality: Modality = "vision"

    def __call__(self, logits: Array, settings: Settings, count: Array) -> Array:
        """One code for each pair of rows, moved by the guidance; the closing id where it is due."""
        prompted, empty = jnp.split(logits, 2)
        guided = empty + settings.guidance * (prompted - empty)
        codes_only = jnp.where(jnp.arange(logits.shape[1]) < self.end_of_frame, guided, -jnp.inf)
        half = guided.shape[0]
        choice = Choice(*(part[:half] for part in settings.choice))
        code = pick(codes_only, choice, count)
        closing = count % self.frame_length == self.frame_length - 1
        return jnp.tile(jnp.where(closing, self.end_of_frame, code), 2)

    def ends(self, token: Array) -> Array:
        """Never: the number of frames is known."""
        return jnp.zeros(token.shape, bool)


def paint(
    model: LWM,
    text: str,
    *,
    num_frames: int = 1,
    image: Drawing = Drawing(),
    video: Drawing = Drawing(top_k=100),
    seed: int = 1234,
) -> NDArray[np.uint8]:
    """Draw ``uint8[T, H, W, 3]``: one frame as an image, the others as a video that follows it.

    Raises:
        MissingCapability: the checkpoint has no vision head or no VQGAN.
        ContextTooLong: so many frames exceed the model.
    """
    coder = model.seeing
    first = _stage(model, f"Generate an image of {text}", [], 1, image, seed)
    codes = [first]
    if num_frames > 1:
        asked = f"Generate a video of {text}"
        codes.append(_stage(model, asked, [first], num_frames - 1, video, seed + 1))
    return coder.decode(np.concatenate(codes))


def _stage(
    model: LWM, text: str, before: list[NDArray[np.int32]], count: int, how: Drawing, seed: int
) -> NDArray[np.int32]:
    """``int32[count, N]`` codes that follow the frames drawn before."""
    config = model.seeing.config
    picks = PickCodes(config.tokens_per_frame + 1, config.num_codes)
    multiple = batch_multiple(model.decoder.mesh)
    # Each half must be shared out alone, so that a prompt and its empty twin are never torn apart.
    prompts = [
        _prompt(model, asked, before, config.num_codes)
        for asked in (f"{SYSTEM} USER: {text} ASSISTANT: {VISION_START}", VISION_START)
        for _ in range(multiple)
    ]
    params = SamplingParams(
        temperature=how.temperature, top_k=how.top_k, seed=seed,
        max_new_tokens=count * picks.frame_length,
    )  # fmt: skip
    settings = settings_of([params] * len(prompts), model.decoder)
    settings = settings._replace(guidance=settings.guidance * how.guidance)
    *_, added = run(model.decoder, picks, model.params, prompts, settings)
    codes: NDArray[np.int32] = added[0].reshape(count, picks.frame_length)[:, :-1]
    return codes


def _prompt(model: LWM, text: str, before: list[NDArray[np.int32]], num_codes: int) -> LaidOut:
    laid = words([model.tokenizer.bos_id, *model.tokenizer.encode(text)])
    for codes in before:
        block = frame_block(codes, num_codes=num_codes, ends="trained")
        # More frames follow, so the last one here ends as an inner one does.
        block.ids[-1] = num_codes
        laid += block
    return laid
