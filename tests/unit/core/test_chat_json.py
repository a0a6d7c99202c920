from __future__ import annotations

from typing import Any

import pytest

from kinema.chat_json import (
    image_part,
    read_messages,
    read_params,
    text_part,
    video_part,
    write_message,
    write_params,
)
from kinema.errors import UnknownName, UsageError
from kinema.messages import ImagePart, Message, SamplingParams, TextPart, VideoPart
from kinema.types import FrameSampling


def address(_: str, named: Any) -> str:
    (value,) = named.values()
    return str(value["url"] if isinstance(value, dict) else value)


def read(*parts: dict[str, Any], frames: FrameSampling = FrameSampling()) -> Message:
    turns = [{"role": "user", "content": list(parts)}]
    (message,) = read_messages(turns, source=address, frames=frames).messages
    return message


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video_url", "video_url": {"url": "a.mp4"}, "num_frames": 3, "start": 1},
        {"type": "video_url", "video_url": {"url": "a.mp4", "num_frames": 3, "start": 1}},
        {"type": "video_url", "video_url": {"url": "a.mp4", "num_frames": 3}, "start": 1},
        {"type": "video", "video": "a.mp4", "num_frames": 3, "start": 1},
        {"type": "video", "path": "a.mp4", "num_frames": 3, "start": 1, "fps": None},
        {"type": "input_video", "input_video": {"url": "a.mp4"}, "num_frames": 3, "start": 1},
    ],
)
def test_every_spelling_of_a_video_is_the_same_part(part):
    (video,) = read(part).parts
    assert isinstance(video, VideoPart)
    assert video.source == "a.mp4"
    assert video.sampling == FrameSampling(num_frames=3, start=1)


def test_what_is_written_is_read_back():
    sampling = FrameSampling(at=(0.5, "1:00"))
    written = Message(
        "assistant", (TextPart("<video>?"), VideoPart("a.mp4", sampling), ImagePart("b.png"))
    )

    def medium(part):
        if isinstance(part, VideoPart):
            return [video_part(part.source, part.sampling)]
        return [image_part(part.source)]

    turn = write_message(written, medium, as_text=False)
    (message,) = read_messages([turn], source=address).messages
    text, video, image = message.parts
    assert message.role == "assistant"
    assert (text, video.sampling) == (TextPart("<video>?"), sampling)
    assert (video.source, image.source) == ("a.mp4", "b.png")


def test_words_can_go_as_one_string():
    words = Message("user", (TextPart("One."), TextPart("Two.")))
    assert write_message(words, lambda _: [], as_text=True)["content"] == "One.\nTwo."
    assert write_message(words, lambda _: [], as_text=False)["content"] == [
        text_part("One."),
        text_part("Two."),
    ]


def test_the_developer_is_the_system():
    (message,) = read_messages(
        [{"role": "developer", "content": "Be brief."}], source=address
    ).messages
    assert message == Message("system", (TextPart("Be brief."),))


def test_frames_that_a_request_asks_for_hold_where_a_video_says_nothing_but_its_range():
    default = FrameSampling(fps=2, end=9)
    bare = {"type": "video", "video": "a.mp4"}
    ranged, own = read(bare | {"start": 3}, bare | {"num_frames": 4}, frames=default).parts
    assert ranged.sampling == FrameSampling(fps=2, start=3, end=9)
    assert own.sampling == FrameSampling(num_frames=4)


def test_two_values_for_one_field_are_refused():
    with pytest.raises(UsageError, match="one fps beside its address and another inside"):
        read({"type": "video_url", "video_url": {"url": "a.mp4", "fps": 1}, "fps": 2})


def test_a_field_that_means_nothing_is_refused():
    with pytest.raises(UnknownName, match="'frames'"):
        read({"type": "video", "video": "a.mp4", "frames": 2})


def test_the_sampling_of_an_answer_is_read_with_our_defaults():
    assert read_params({}) == SamplingParams()
    body = {"temperature": 1, "top_k": -1, "stop": "\n", "max_tokens": 5, "logprobs": True}
    assert read_params(body) == SamplingParams(
        temperature=1, stop=("\n",), max_new_tokens=5, logprobs=0
    )


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.5, top_p=0.9, top_k=3, repetition_penalty=1.1, seed=0),
        SamplingParams(max_new_tokens=9, min_new_tokens=2, stop=("a", "b"), logprobs=2),
        SamplingParams(json_schema='{"type": "object"}'),
    ],
)
def test_a_sampling_that_is_written_is_read_back(params):
    assert read_params(write_params(params)) == params
