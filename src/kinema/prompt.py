"""The narrow waist: a conversation goes in, a request that an engine can run comes out.

Three steps, each usable alone: :func:`decode` turns sources into frames, :func:`prepare` renders
the prompt around them, :func:`fit` counts tokens and takes frames away when that was asked for.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from kinema.errors import ContextTooLong, MediumRefused
from kinema.families import Checkpoint, Family
from kinema.families.chat_template import render, takes_parts
from kinema.messages import (
    Conversation,
    FeaturesPart,
    ImagePart,
    Media,
    Message,
    Part,
    Prompt,
    Request,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.types import Features, Frames
from kinema.video import load_frames, load_image
from kinema.video.similar import without_similar

Count = Callable[[Request], int]
"""Prompt tokens of a request, words and pictures together."""


LoadFrames = Callable[..., Frames]
"""``load_frames`` of :mod:`kinema.video`, or that of worker processes."""


def decode(
    conversation: Conversation, family: Family, *, load: LoadFrames = load_frames
) -> Conversation:
    """The same conversation with every source read into frames, as the family wants them.

    Raises:
        MediaError: a source cannot be read.
        MediumRefused: the family does not take this kind of medium.
    """
    return conversation.mapped(partial(decode_part, family=family, load=load))


def decode_part(part: Part, family: Family, *, load: LoadFrames = load_frames) -> Part:
    """One part of a message with its source read; words stay as they are.

    Raises:
        MediaError: the source cannot be read.
        MediumRefused: the family does not take this kind of medium.
    """
    if isinstance(part, VideoPart):
        return _decode_video(part, family, load)
    if isinstance(part, ImagePart):
        _require(family.takes_image, family, "images")
        if not isinstance(part.source, Frames):
            return replace(part, source=_named(load_image(part.source, load=load), part.name))
    if isinstance(part, FeaturesPart):
        _require(family.takes_features, family, "precomputed features")
        if not isinstance(part.source, Features):
            from kinema.models.videolm.features import read_features  # noqa: PLC0415  imports torch

            return FeaturesPart(read_features(part.source))
    return part


def _decode_video(part: VideoPart, family: Family, load: LoadFrames) -> VideoPart:
    sampling = part.sampling.or_default(family.default_sampling)
    frames = part.source
    if not isinstance(frames, Frames):
        size = {} if part.size is None else {"size": part.size}
        frames = _named(load(frames, sampling=sampling, **size), part.name)
    if part.skip_similar is not None and not frames.left_out_seconds:
        frames = without_similar(frames, part.skip_similar)
    return replace(part, source=_meet_limits(frames, family), sampling=sampling)


def _named(frames: Frames, name: str) -> Frames:
    return replace(frames, source=name) if name else frames


def _require(holds: bool, family: Family, what: str) -> None:
    if not holds:
        raise MediumRefused(
            f"{family.title} does not take {what}.", hint="`kinema models` says which family does."
        )


def _meet_limits(frames: Frames, family: Family) -> Frames:
    """The frames with a warning where the family will see some of them twice."""
    exact = family.exact_frames
    if exact is not None and len(frames) > exact:
        raise MediumRefused(
            f"{family.title} takes exactly {exact} frames and gets {len(frames)}.",
            hint=f"Use --num-frames {exact}, or a family without this limit: see `kinema models`.",
        )
    least = exact or family.min_frames
    if len(frames) >= least:
        return frames
    kind = "exactly" if exact else "at least"
    return frames.warned(
        f"{family.title} takes {kind} {least} frames and gets {len(frames)}; "
        "the last one is shown again"
    )


def prepare(
    conversation: Conversation,
    *,
    family: Family,
    checkpoint: Checkpoint,
    params: SamplingParams,
    request_id: str = "0",
    add_bos: bool = False,
) -> Request:
    """Render a decoded conversation into the request that an engine runs.

    Args:
        conversation: every source in it is decoded.
        family: how the model is spoken to.
        checkpoint: its template and special tokens.
        params: how tokens are sampled.
        request_id: stands in the completion.
        add_bos: begin the prompt with the tokenizer's begin mark, where the template does not.

    Raises:
        ModelError: the checkpoint ships no usable template and the family has none.
    """
    conversation = _with_system(conversation, family)
    family = _without_video_beside_images(conversation, family)
    _require_one_length(conversation, family)
    _require_features_alone(conversation)
    sources = [part.source for part in conversation.media]
    if not all(isinstance(source, Frames | Features) for source in sources):
        raise TypeError("prepare() wants a decoded conversation; call decode() first")
    prompt = write(conversation, family=family, checkpoint=checkpoint)
    bos = checkpoint.special_tokens.get("bos_token", "")
    if add_bos and not prompt.text.startswith(bos):
        prompt = replace(prompt, text=bos + prompt.text)
    return Request(
        request_id,
        prompt,
        tuple(_media(conversation, family)),
        params,
        conversation,
        tuple(source for source in sources if isinstance(source, Features)),
    )


def write(
    conversation: Conversation,
    *,
    family: Family,
    checkpoint: Checkpoint,
    add_generation_prompt: bool = True,
) -> Prompt:
    """The conversation as its template writes it: a prompt, or finished as training sees it.

    Raises:
        ModelError: the checkpoint ships no usable template and the family has none.
    """
    conversation = _with_system(conversation, family)
    family, template = _choose_template(family, checkpoint)
    own = {family.video_placeholder, family.image_placeholder} - {""}
    guard = _Guard({"<video>", "<image>", *own, *checkpoint.control_tokens})
    messages = [_template_message(message, family, guard) for message in conversation.messages]
    text = render(
        template,
        messages,
        special_tokens=checkpoint.special_tokens,
        add_generation_prompt=add_generation_prompt,
    )
    return Prompt(text, tuple(guard.literals))


def _with_system(conversation: Conversation, family: Family) -> Conversation:
    roles = {message.role for message in conversation.messages}
    if "system" in roles or not family.system:
        return conversation
    system = Message("system", (TextPart(family.system),))
    return Conversation((system, *conversation.messages))


def _without_video_beside_images(conversation: Conversation, family: Family) -> Family:
    """The family without video input, where it cannot take one next to an image."""
    kinds = {type(part) for part in conversation.media}
    if family.image_and_video_in_one_call or not {ImagePart, VideoPart} <= kinds:
        return family
    return replace(family, takes_video=False)


def _require_one_length(conversation: Conversation, family: Family) -> None:
    videos = (p.source for p in conversation.media if isinstance(p, VideoPart))
    shown = family.exact_frames or family.min_frames
    lengths = sorted({max(shown, len(v)) for v in videos if isinstance(v, Frames)})
    if family.takes_video and not family.ragged_batch_ok and len(lengths) > 1:
        raise MediumRefused(
            f"{family.title} takes clips of one length in one prompt and gets "
            f"{' and '.join(map(str, lengths))} frames.",
            hint=f"Use --num-frames {lengths[0]} for all of them.",
        )


def _require_features_alone(conversation: Conversation) -> None:
    kinds = {type(part) for part in conversation.media}
    if FeaturesPart in kinds and len(kinds) > 1:
        raise MediumRefused(
            "Precomputed features and frames do not go into one conversation.",
            hint="Give the features of all media, or the media themselves.",
        )


def _choose_template(family: Family, checkpoint: Checkpoint) -> tuple[Family, str]:
    """The checkpoint's template, else the family's, and the family as that template is fed."""
    own = checkpoint.chat_template
    if not own:
        return family, family.template
    return replace(family, content="parts" if takes_parts(own) else "text"), own


def _media(conversation: Conversation, family: Family) -> Iterator[Media]:
    for part in conversation.media:
        frames = part.source
        if not isinstance(frames, Frames):
            continue
        if isinstance(part, VideoPart) and family.takes_video:
            yield Media("video", frames)
        else:
            yield from (Media("image", frames[i : i + 1]) for i in range(len(frames)))


class _Guard:
    """Cuts out of the user's words what a tokenizer or processor would read as control."""

    def __init__(self, control: Iterable[str]) -> None:
        longest_first = sorted({*control, Prompt.GUARD}, key=len, reverse=True)
        self._pattern = re.compile("|".join(re.escape(token) for token in longest_first))
        self.literals: list[str] = []

    def __call__(self, text: str) -> str:
        self.literals += self._pattern.findall(text)
        return self._pattern.sub(Prompt.GUARD, text)


def _template_message(message: Message, family: Family, guard: _Guard) -> Mapping[str, Any]:
    parts = [typed for part in message.parts for typed in _typed(part, family, guard)]
    if family.content == "parts":
        given = parts if message.between else _without_blanks(parts)
        return {"role": message.role, "content": given}
    placeholder = {"video": family.video_placeholder, "image": family.image_placeholder}
    lines = (part["text"] if "text" in part else placeholder[part["type"]] for part in parts)
    return {"role": message.role, "content": message.between.join(lines)}


def _without_blanks(parts: list[dict[str, str]]) -> list[dict[str, str]]:
    """Words without the white space beside media: a template of parts writes its own.

    They have some where somebody put a placeholder into a text, ``<video>`` and a line break.
    """
    sides = [{}, *parts, {}]
    bare = []
    for before, part, after in zip(sides, parts, sides[2:], strict=False):
        text = part.get("text", "")
        text = text.lstrip() if before and "text" not in before else text
        text = text.rstrip() if after and "text" not in after else text
        if "text" not in part:
            bare.append(part)
        elif text:
            bare.append(part | {"text": text})
    return bare


def _typed(part: Part, family: Family, guard: _Guard) -> Iterator[dict[str, str]]:
    if isinstance(part, TextPart):
        yield {"type": "text", "text": guard(part.text)}
    elif isinstance(part, FeaturesPart) or (isinstance(part, VideoPart) and family.takes_video):
        yield {"type": "video"}
    elif isinstance(part, VideoPart) and isinstance(part.source, Frames):
        for seconds in part.source.seconds:
            yield {"type": "text", "text": frame_label(seconds)}
            yield {"type": "image"}
    else:
        yield {"type": "image"}


def frame_label(seconds: float) -> str:
    """What stands before a frame that goes as an image: its time."""
    return f"Frame at {seconds:.1f} s:"


def with_frames(conversation: Conversation, most: int) -> Conversation:
    """The same conversation, no video holding more than ``most`` frames, spread evenly."""

    def thin(part: Part) -> Part:
        if not isinstance(part, VideoPart) or not isinstance(part.source, Frames):
            return part
        frames = part.source
        if len(frames) <= most:
            return part
        middles = (np.arange(most) * 2 + 1) * len(frames) // (2 * most)
        return replace(part, source=frames[middles])

    return conversation.mapped(thin)


def fit(
    request: Request,
    *,
    count: Count,
    context_length: int | None,
    reprepare: Callable[[Conversation], Request],
    reduce: bool = False,
) -> tuple[Request, str]:
    """The request itself when it fits the context, or one with fewer frames when ``reduce``.

    Args:
        request: a prepared request.
        count: prompt tokens of a request, without running the model.
        context_length: tokens the model has for prompt and answer; None when unlimited.
        reprepare: renders a conversation with fewer frames.
        reduce: take frames away instead of refusing.

    Returns:
        The request to run, and a sentence about what was reduced, empty when nothing was.

    Raises:
        ContextTooLong: it does not fit; says needed, available and the frames that would.
    """
    answer = request.params.max_new_tokens
    if context_length is None or (needed := count(request) + answer) <= context_length:
        return request, ""

    def smaller(most: int) -> Request:
        return reprepare(with_frames(request.conversation, most))

    videos = (p.source for p in request.conversation.media if isinstance(p, VideoPart))
    counts = range(1, max((len(v) for v in videos if isinstance(v, Frames)), default=0))
    largest = bisect_left(
        counts, True, key=lambda most: count(smaller(most)) + answer > context_length
    )
    if not reduce or not largest:
        raise ContextTooLong(
            needed=needed, available=context_length, largest_num_frames=largest or None
        )
    return smaller(largest), f"reduced to {largest} frames to fit {context_length} tokens"
