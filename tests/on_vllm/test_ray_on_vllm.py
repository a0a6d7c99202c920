"""vLLM engines in the workers of Ray: the records of one process with one engine."""

from __future__ import annotations

import pytest

pytest.importorskip("vllm")
pytest.importorskip("ray")

import ray

from kinema.captioning.segments import SegmentOptions
from kinema.engines import EngineSettings
from kinema.jobs.inputs import find_inputs
from kinema.messages import SamplingParams
from kinema.tasks.caption.job import CaptionJob
from kinema.tasks.caption.settings import CaptionSettings
from kinema.tasks.models import find_model
from support.clips import make_clip
from support.elsewhere import make_elsewhere


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = make_elsewhere("qwen2-vl", tmp_path_factory.mktemp("qwen2-vl"))
    return find_model(str(folder), engine="vllm")


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in range(3):
        make_clip(folder / f"{i}.mp4", num_frames=50 + 10 * i, fps=10)
    (folder / "broken.mp4").write_bytes(b"\0" * 5000)
    return folder


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def records(model, videos, state, **runner):
    job = CaptionJob(
        inputs=find_inputs([videos]),
        state=state,
        say=CaptionSettings(
            model=model,
            params=SamplingParams(max_new_tokens=12, min_new_tokens=12),
            engine=EngineSettings(device="cpu", dtype="float32", max_context=2048),
            segments=SegmentOptions(batch_size=2),
        ),
        **runner,
    )
    job.run()
    return [described.record for described in job.results()]


def test_workers_with_vllm_write_what_one_process_writes(model, videos, tmp_path, cluster):
    there = records(model, videos, tmp_path / "there", runner="ray", workers=1)
    here = records(model, videos, tmp_path / "here")
    assert [record.status for record in here] == ["ok", "ok", "ok", "failed"]
    assert all(caption.text for record in here[:3] for caption in record.captions)
    assert there == here
