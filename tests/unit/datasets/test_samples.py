"""Training data of every shape becomes the same samples, and bad rows are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kinema.datasets.samples import (
    Sample,
    detect_shape,
    find_features,
    read_samples,
    write_samples,
)
from kinema.errors import MediaNotFound, UnknownName, UsageError
from kinema.messages import (
    Conversation,
    FeaturesPart,
    ImagePart,
    Message,
    TextPart,
    VideoPart,
)
from kinema.types import FrameSampling

QUESTION, ANSWER = "What happens?", "A cup falls."


def write_rows(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def in_llava_shape(**changes: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": f"<video>\n{QUESTION}"}, {"from": "gpt", "value": ANSWER}]
    return {"id": "a", "video": "clips/a.mp4", "conversations": turns} | changes


def in_messages_shape(**changes: Any) -> dict[str, Any]:
    turns = [
        {"role": "user", "content": f"<video>{QUESTION}"},
        {"role": "assistant", "content": ANSWER},
    ]
    return {"id": "a", "videos": ["clips/a.mp4"], "messages": turns} | changes


def in_chat_shape(**changes: Any) -> dict[str, Any]:
    parts = [
        {"type": "video_url", "video_url": {"url": "clips/a.mp4"}},
        {"type": "text", "text": QUESTION},
    ]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": ANSWER}]
    return {"id": "a", "messages": turns} | changes


def in_dataset_shape() -> dict[str, Any]:
    parts = [{"type": "video"}, {"type": "text", "text": QUESTION}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": ANSWER}]
    return {"id": "a", "video": {"path": "clips/a.mp4", "bytes": None}, "messages": turns}


def in_query_shape(**changes: Any) -> dict[str, Any]:
    row = {"query": f"<video>{QUESTION}", "response": ANSWER, "videos": ["clips/a.mp4"]}
    return {"id": "a"} | row | changes


def in_alpaca_shape(**changes: Any) -> dict[str, Any]:
    row = {"instruction": f"<video>{QUESTION}", "input": "", "output": ANSWER}
    return {"id": "a", "videos": ["clips/a.mp4"]} | row | changes


def the_sample(folder: Path, *, line: int = 1) -> Sample:
    asked = Message("user", (VideoPart(folder / "clips/a.mp4"), TextPart(QUESTION)))
    answered = Message("assistant", (TextPart(ANSWER),))
    return Sample("a", Conversation((asked, answered)), {}, line)


def told(sample: Sample, folder: Path) -> dict[str, Any]:
    return sample.to_dict(folder)


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (in_chat_shape(), "chat"),
        (in_llava_shape(), "conversations"),
        (in_messages_shape(), "messages"),
        (in_dataset_shape(), "dataset"),
        (in_query_shape(), "query"),
        (in_query_shape(query=QUESTION), "query"),
        (in_query_shape(history=[], system=None, rejected_response=None), "query"),
        (in_alpaca_shape(), "alpaca"),
        (in_alpaca_shape(instruction="<video>", input=QUESTION), "alpaca"),
    ],
)
def test_every_shape_gives_the_same_sample(tmp_path: Path, row: Any, shape: str) -> None:
    path = write_rows(tmp_path / "data.jsonl", row)

    assert detect_shape(path) == shape
    (sample,) = read_samples(path)
    assert told(sample, tmp_path) == told(the_sample(tmp_path), tmp_path)
    assert sample.conversation.media[0].source == tmp_path / "clips/a.mp4"


def test_a_parquet_file_of_hugging_face_is_a_data_file_with_bytes(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    row = in_dataset_shape() | {"video": {"path": None, "bytes": b"moov"}}
    row["messages"][1]["content"] = [{"type": "text", "text": ANSWER}]
    parquet.write_table(
        pyarrow.Table.from_pylist([row, row | {"id": "b"}]), tmp_path / "train.parquet"
    )

    first, second = read_samples(tmp_path)

    assert (first.id, second.id, second.line) == ("a", "b", 2)
    assert first.conversation.media[0].source == b"moov"


def test_written_samples_are_read_back(tmp_path: Path) -> None:
    parts = (
        FeaturesPart(tmp_path / "f" / "a.safetensors"),
        ImagePart("https://example.org/a.png"),
        VideoPart(
            tmp_path / "a.avi",
            FrameSampling(num_frames=4, start=1.5, end="2:00", formula="segments"),
        ),
        VideoPart([tmp_path / "1.png", tmp_path / "2.png"]),
        TextPart("Look at <video>."),
    )
    tagged = Message("user", (TextPart("What does <video> mean?"),))
    sample = Sample(
        "x",
        Conversation((Message("user", parts), Message("assistant", (TextPart("ü"),)), tagged)),
        {"n": 1},
    )

    (tmp_path / "sub").mkdir()
    write_samples(tmp_path / "sub" / "data.jsonl", [sample])

    text = (tmp_path / "sub" / "data.jsonl").read_text(encoding="utf-8")
    assert '"../f/a.safetensors"' in text
    (back,) = read_samples(tmp_path / "sub" / "data.jsonl")
    assert back.meta == {"n": 1}
    assert told(back, tmp_path) == told(sample, tmp_path)
    video = back.conversation.media[2]
    assert isinstance(video, VideoPart)
    assert video.sampling == FrameSampling(num_frames=4, start=1.5, end="2:00", formula="segments")


def test_a_json_list_keeps_the_lines_of_its_items(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([in_llava_shape(), in_llava_shape(id="b")], indent=2))

    lines = path.read_text().splitlines()
    for sample in read_samples(path):
        assert f'"id": "{sample.id}"' in lines[sample.line]


def test_placeholders_of_folders_and_another_media_folder_are_understood(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "d.jsonl", in_llava_shape(video="{video_folder}/clips/a.mp4"))

    (sample,) = read_samples(path, media=tmp_path / "media")

    assert sample.conversation.media[0].source == tmp_path / "media/clips/a.mp4"


def test_turns_of_sharegpt_and_neva_keep_their_roles_and_their_order(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "Compare <video> \nwith <image>, please."},
        {"from": "gpt", "value": "Both fall."},
        {"from": "user", "value": "Sure?"},
        {"from": "assistant", "value": "Yes, see <video>."},
    ]
    row = {"system": "Be brief.", "video": "a.mp4", "image": ["b.png"], "conversations": turns}

    (sample,) = read_samples(write_rows(tmp_path / "data.jsonl", row))

    messages = sample.conversation.messages
    assert [m.role for m in messages] == ["system", "user", "assistant", "user", "assistant"]
    kinds = [type(part) for part in messages[1].parts]
    assert kinds == [TextPart, VideoPart, TextPart, ImagePart, TextPart]
    assert [p.text for p in messages[1].parts if isinstance(p, TextPart)] == [
        "Compare",
        "with",
        ", please.",
    ]
    assert messages[4].text == "Yes, see <video>."


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (in_llava_shape(video=["a.mp4", "b.mp4"]), "The row has 1 <video> and names 2."),
        (in_llava_shape(video=None), "The row has 1 <video> and names 0."),
        (in_messages_shape(videos=[]), "The row has 1 <video> and names 0."),
        (in_llava_shape(conversations=[{"from": "cat", "value": "m"}]), "no role 'cat'"),
        (in_llava_shape(conversations=[]), "no list of turns"),
        (in_chat_shape(messages=[{"role": "user"}]), "no role and content"),
        (
            in_chat_shape(messages=[{"role": "user", "content": [{"type": "sound"}]}]),
            "no part type 'sound'",
        ),
        ({"prompt": "hi"}, "The row has prompt."),
        ([1], "no JSON object"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: Any, sentence: str) -> None:
    path = write_rows(tmp_path / "data.jsonl", in_llava_shape(), row)

    with pytest.raises(UsageError, match=rf"data\.jsonl, line 2: .*({sentence})"):
        list(read_samples(path))


def test_a_misspelt_field_of_a_part_is_not_dropped_in_silence(tmp_path: Path) -> None:
    part = {"type": "video_url", "video_url": {"url": "a.mp4"}, "num_frame": 4}
    row = {"messages": [{"role": "user", "content": [part]}]}

    with pytest.raises(UsageError) as raised:
        list(read_samples(write_rows(tmp_path / "data.jsonl", row)))

    assert "num_frames" in raised.value.hint
    assert isinstance(raised.value.__cause__, UnknownName)


def test_features_are_found_by_the_longest_tail_of_the_path(tmp_path: Path) -> None:
    for name in (
        "tea.avi.safetensors",
        "P03/cam01/tea.avi.safetensors",
        "P03/tea.avi.flip.safetensors",
    ):
        (tmp_path / "features" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "features" / name).touch()
    folder = tmp_path / "features"

    assert find_features(tmp_path / "in/P03/cam01/tea.avi", folder).parent.name == "cam01"
    assert find_features(tmp_path / "in/P04/cam01/tea.avi", folder).parent == folder
    flipped = find_features(tmp_path / "in/P03/tea.avi", folder, variant="flip")
    assert flipped.name == "tea.avi.flip.safetensors"
    with pytest.raises(MediaNotFound, match=r"coffee\.avi"):
        find_features(tmp_path / "in/P03/cam01/coffee.avi", folder)


def test_a_tag_for_a_picture_beside_one_video_is_the_video_as_in_llava_video(
    tmp_path: Path,
) -> None:
    turns = [{"from": "human", "value": f"<image>\n{QUESTION}"}, {"from": "gpt", "value": ANSWER}]
    row = in_llava_shape(conversations=turns, data_source="0_30_s_academic_v0_1")
    (sample,) = read_samples(write_rows(tmp_path / "d.jsonl", row))
    assert told(sample, tmp_path) == told(the_sample(tmp_path), tmp_path)
    both = in_llava_shape(conversations=turns, image="b.jpg")
    with pytest.raises(UsageError, match="0 <video> and names 1"):
        list(read_samples(write_rows(tmp_path / "e.jsonl", both)))


def test_history_and_a_system_prompt_are_turns_of_their_own(tmp_path: Path) -> None:
    history = [["<video>Who?", "A man."], ["Where?", "In a kitchen."]]
    row = in_query_shape(query=QUESTION, history=history, system="Be brief.")
    (sample,) = read_samples(write_rows(tmp_path / "d.jsonl", row))
    messages = sample.conversation.messages
    assert [message.role for message in messages] == ["system", *["user", "assistant"] * 3]
    assert [message.text for message in messages] == [
        *("Be brief.", "Who?", "A man.", "Where?", "In a kitchen.", QUESTION, ANSWER)
    ]
    assert isinstance(messages[1].parts[0], VideoPart)


def test_qwens_fields_of_a_video_are_read(tmp_path: Path) -> None:
    part = {"type": "video", "video": "a.mp4", "video_start": 2, "video_end": 8, "nframes": 4}
    turns = [
        {"role": "user", "content": [part, {"type": "text", "text": QUESTION}]},
        {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]},
    ]
    (sample,) = read_samples(write_rows(tmp_path / "d.jsonl", {"messages": turns}))
    shown = sample.conversation.media[0]
    assert shown.sampling == FrameSampling(num_frames=4, start=2, end=8)


SIZED = {"type": "video", "video": "a.mp4", "max_pixels": 151200}
SILENT = [
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": ANSWER, "loss": False},
]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (in_query_shape(rejected_response="A cup stands."), "`rejected_response`: preferences"),
        (in_llava_shape(chosen={"from": "gpt", "value": "x"}), "`chosen`: preferences"),
        (in_messages_shape(tools='[{"name": "zoom"}]'), "`tools`: tools"),
        (in_messages_shape(audios=["a.wav"]), "`audios`: sound"),
        (in_messages_shape(messages=SILENT, videos=None), "A turn has `loss`"),
        ({"messages": [{"role": "user", "content": [SIZED]}]}, "max_pixels"),
        (in_query_shape(history=[["only a question"]]), "not a list of pairs"),
        (in_query_shape(response=None), "`response` is not a text"),
        (in_query_shape(query="<video><video>?"), "2 <video> and names 1"),
        ({"question": "?", "answer": "!"}, "The row has question, answer"),
    ],
)
def test_what_would_change_what_is_learned_is_refused_with_the_line(
    tmp_path: Path, row: Any, words: str
) -> None:
    path = write_rows(tmp_path / "data.jsonl", in_llava_shape(), row)
    with pytest.raises(UsageError, match=f"line 2: .*{words}"):
        list(read_samples(path))
