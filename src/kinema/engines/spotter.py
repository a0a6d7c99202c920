"""The built-in object spotter as an engine: a small network in NumPy, and fixed sentences."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinema.engines.base import Inbox
from kinema.engines.settings import SpotterSettings
from kinema.errors import KinemaError, MissingCapability, RequestRefused
from kinema.families import Family
from kinema.messages import Completion, Media, Request, Usage
from kinema.models.spotter.network import Network, look, weights_file
from kinema.models.spotter.sentences import answer
from kinema.models.spotter.sightings import Clip

_REMEMBERED_FRAMES = 2048
"""Their class probabilities; eight kilobytes each."""


class SpotterEngine:
    """Names what the network recognises. A word is a token, and so is a frame.

    Raises:
        MissingCapability: it was to run on something else than a CPU.
        MissingPackage: the weights are not installed.
        ModelError: they are damaged.
    """

    name = "spotter"
    context_length = None

    def __init__(
        self,
        folder: Path | None = None,
        *,
        family: Family | None = None,
        settings: SpotterSettings | None = None,
    ) -> None:
        settings = settings or SpotterSettings()
        if settings.device not in ("auto", "cpu"):
            raise MissingCapability(
                f"The spotter runs on a CPU and does not do --device {settings.device}.",
                hint="Leave --device out.",
            )
        self.batch_size = settings.batch_size
        self._network = Network(weights_file())
        self._known: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()

    def count_tokens(self, request: Request) -> int:
        """Words of the prompt and frames."""
        return len(request.prompt.text.split()) + _num_frames(request)

    def pick(self, waiting: Sequence[Request], running: Sequence[Request]) -> list[Request]:
        """In the order in which they came."""
        return list(waiting[: self.batch_size])

    def serve(self, inbox: Inbox) -> None:
        """Answer in order, a word at a time where the caller reads along."""
        while taken := inbox.take():
            for request in taken:
                try:
                    _check_params(request)
                    self._answer(request, inbox)
                except KinemaError as problem:
                    inbox.fail(request.id, problem)

    def release(self) -> None:
        """Forget the frames that were seen."""
        self._known.clear()

    def close(self) -> None:
        """Nothing but memory was taken."""
        self._known.clear()

    def _answer(self, request: Request, inbox: Inbox) -> None:
        began = time.perf_counter()
        clips = []
        for medium in request.media:
            if inbox.is_cancelled(request.id):
                return
            clips.append(self._look(medium, request, inbox))
        turns = [m for m in request.conversation.messages if m.role != "system"]
        said = [m.text for m in turns if m.role == "user"]
        answers = [m.text for m in turns if m.role == "assistant"]
        whole = answer(said, clips, answers)
        words, params = whole.split(" "), request.params
        kept = " ".join(words[: params.max_new_tokens])
        text, is_stopped = params.cut_at_stop(kept)
        first = time.perf_counter() - began
        if inbox.is_streamed(request.id):
            for i, word in enumerate(text.split(" ") if text else ()):
                inbox.write(request.id, word if i == 0 else f" {word}")
        is_whole = is_stopped or len(words) <= params.max_new_tokens
        inbox.complete(
            Completion(
                request.id,
                text,
                "stop" if is_whole else "length",
                Usage(self.count_tokens(request), len(text.split()), _num_frames(request)),
                seconds=time.perf_counter() - began,
                first_token_seconds=first,
            )
        )

    def _look(self, medium: Media, request: Request, inbox: Inbox) -> Clip:
        """What the network makes of one medium; frames that it knows are not looked at again."""
        frames = medium.frames
        seen = []
        for pixels in frames.pixels:
            name = blake2b(str(pixels.shape).encode() + pixels.tobytes(), digest_size=16).digest()
            if name not in self._known:
                self._known[name] = look(self._network, pixels)
            self._known.move_to_end(name)
            seen.append(self._known[name])
        while len(self._known) > _REMEMBERED_FRAMES:
            self._known.popitem(last=False)
        return Clip(
            "video" if medium.kind == "video" else "picture",
            np.stack(seen),
            frames.seconds,
            (frames.pixels.shape[2], frames.pixels.shape[1]),
            frames.total_frames,
            frames.duration_seconds,
            frames.source_fps,
        )


def _num_frames(request: Request) -> int:
    return sum(len(m.frames) for m in request.media)


def _check_params(request: Request) -> None:
    if request.params.json_schema is not None:
        raise RequestRefused(
            "The spotter has its own sentences and writes no JSON.",
            hint="Leave the schema out, or use another model.",
        )
    if request.params.logprobs is not None:
        raise MissingCapability(
            "The spotter does not do --logprobs.", hint="Leave it out, or use another model."
        )
