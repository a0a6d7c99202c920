"""Captions from real vLLM: as JSON of a schema, and as words that are summarised."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

pytest.importorskip("vllm")

from transformers import AutoTokenizer

from kinema.captioning.segments import SegmentOptions
from kinema.engines import EngineSettings
from kinema.jobs.inputs import find_inputs
from kinema.messages import SamplingParams
from kinema.structured import follow_schema, read_schema
from kinema.tasks.caption.job import CaptionJob
from kinema.tasks.caption.settings import CaptionSettings
from kinema.tasks.models import find_model
from support.clips import make_clip
from support.elsewhere import make_elsewhere
from support.schemas import SCHEMA


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model, and the scheduler of its engine, which stays open from job to job."""
    folder = make_elsewhere("qwen2-vl", tmp_path_factory.mktemp("qwen2-vl"))
    found = find_model(str(folder), engine="vllm")
    settings = EngineSettings(device="cpu", dtype="float32", max_context=2048)
    with closing(found.scheduler(settings)) as scheduler:
        yield found, scheduler


@pytest.fixture(scope="module")
def ending_model(tmp_path_factory):
    """A model that ends its answers: all but a few words are end tokens to it."""
    folder = make_elsewhere("qwen2-vl", tmp_path_factory.mktemp("qwen2-vl-ending"))
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    said = sorted(token for token in vocabulary if token.isalpha() and token.isascii())[:12]
    ends = sorted(vocabulary[token] for token in vocabulary.keys() - set(said))
    file = folder / "generation_config.json"
    config = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(config | {"eos_token_id": ends}))
    found = find_model(str(folder), engine="vllm")
    settings = EngineSettings(device="cpu", dtype="float32", max_context=2048)
    with closing(found.scheduler(settings)) as scheduler:
        yield found, scheduler


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in range(2):
        make_clip(folder / f"{i}.mp4", num_frames=50 + 10 * i, fps=10)
    return folder


def records(model, videos, state, **params):
    found, scheduler = model
    job = CaptionJob(
        inputs=find_inputs([videos]),
        state=state,
        say=CaptionSettings(
            model=found,
            params=SamplingParams(**params),
            segments=SegmentOptions(batch_size=2),
        ),
        scheduler=scheduler,
    )
    job.run()
    return [described.record for described in job.results()]


def test_every_caption_is_json_of_the_schema_and_summaries_stay_words(model, videos, tmp_path):
    schema = read_schema(json.dumps(SCHEMA))
    made = records(model, videos, tmp_path / "json", json_schema=schema, max_new_tokens=100)
    assert [(r.status, r.error, len(r.captions)) for r in made] == [("ok", None, 3)] * 2
    for record in made:
        assert record.summary
        for caption in record.captions:
            assert caption.finish_reason == "stop"
            assert follow_schema(caption.text, schema) == caption.fields


def test_an_answer_that_was_cut_is_an_error_of_its_segment_and_no_caption(model, videos, tmp_path):
    schema = read_schema(json.dumps(SCHEMA))
    record, _ = records(model, videos, tmp_path / "cut", json_schema=schema, max_new_tokens=4)
    assert record.status == "failed"
    assert "no whole JSON" in record.error
    assert not record.captions


def test_captions_in_words_are_summarised_and_entitled(ending_model, videos, tmp_path):
    made = records(ending_model, videos, tmp_path / "words", max_new_tokens=60, min_new_tokens=8)
    assert [r.status for r in made] == ["ok", "ok"]
    for record in made:
        assert all(caption.text for caption in record.captions)
        assert record.summary
        assert record.title
        assert all(set(s.sources) <= {0, 1, 2} for s in record.summary)
