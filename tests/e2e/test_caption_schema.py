"""Captions as JSON of the user's schema, through the command line."""

import json

import pytest

from kinema.cli.app import run
from support.clips import make_clip

SCHEMA = {
    "type": "object",
    "properties": {"people": {"type": "integer", "maximum": 3}, "indoors": {"type": "boolean"}},
    "required": ["people", "indoors"],
    "additionalProperties": False,
}


@pytest.fixture
def words(family_folder, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    clip = make_clip(tmp_path / "clip.mp4", num_frames=30, fps=5)
    model = family_folder("qwen2-vl")
    words = ["caption", clip, "-m", model, "--schema", schema, "--summary-by", "extract"]
    return [*map(str, words), "--result-path", str(tmp_path / "result.json"), "--device", "cpu"]


def captions_in(folder):
    return json.loads((folder / "result.json").read_text())["x_kinema"]["captions"]


def test_every_caption_carries_the_fields_of_the_schema(words, tmp_path):
    assert run(words) == 0
    captions = captions_in(tmp_path)
    assert len(captions) == 2
    for caption in captions:
        assert caption["fields"].keys() == {"people", "indoors"}
        assert isinstance(caption["fields"]["indoors"], bool)
        assert json.loads(caption["text"]) == caption["fields"]


def test_an_answer_cut_short_is_an_error_and_not_written(words, tmp_path, capsys):
    assert run([*words, "--max-new-tokens", "3"]) == 1
    assert "no whole JSON" in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()
