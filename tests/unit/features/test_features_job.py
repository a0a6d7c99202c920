"""Features of folders of videos: right rows, whole files, and runs that go on where they ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, CLIPVisionModel

from kinema.cli.app import run
from kinema.datasets.samples import find_features
from kinema.errors import MissingPackage, UsageError
from kinema.models.videolm.features import load_features
from kinema.tasks.features.inputs import find_media, without_copies
from kinema.tasks.features.job import FeaturesJob
from kinema.tasks.features.options import FeatureOptions
from kinema.types import FrameSampling
from kinema.video import load_frames
from support.clips import make_clip
from support.towers import make_clip as make_clip_folder
from support.towers import make_siglip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def clip_tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip_folder(tmp_path_factory.mktemp("clip") / "tower")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two persons, two cameras, one of the files no video."""
    folder = tmp_path / "videos"
    for name, num_frames in (("P03/cam01/P03_tea.avi", 30), ("P04/cam02/P04_milk.avi", 12)):
        (folder / name).parent.mkdir(parents=True)
        make_clip(folder / name, num_frames=num_frames, codec="mpeg4")
    (folder / "P04/cam02/P04_bad.avi").write_bytes(b"this is no video" * 40)
    return folder


def job(media: Any, output: Path, tower: Path, **changes: Any) -> FeaturesJob:
    options = FeatureOptions(tower=str(tower), **changes.pop("options", {}))
    sampling = changes.pop("sampling", FrameSampling(num_frames=8, formula="segments"))
    return FeaturesJob(
        media=media, output=output, options=options, sampling=sampling, workers=1, **changes
    )


def of_upstream(path: Path, tower: Path, num_frames: int) -> torch.Tensor:
    """Video-ChatGPT's features, step by step: nearest pixels, PIL, processor, tower, two means."""
    pixels = torch.from_numpy(load_frames(path, num_frames=num_frames, formula="segments").pixels)
    squares = torch.nn.functional.interpolate(pixels.permute(0, 3, 1, 2).float(), (28, 28))
    processor = AutoImageProcessor.from_pretrained(tower, backend="pil")
    pictures = list(squares.permute(0, 2, 3, 1).to(torch.uint8).numpy())
    inputs = processor(pictures, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        model = CLIPVisionModel.from_pretrained(tower).eval()
        patches = model(inputs, output_hidden_states=True).hidden_states[-2][:, 1:]
    temporal = torch.zeros(num_frames, patches.shape[-1])
    temporal[: len(patches)] = patches.mean(dim=1)
    return torch.cat([temporal, patches.mean(dim=0)])


def test_rows_are_those_of_the_upstream_recipe(
    tmp_path: Path, videos: Path, clip_tower: Path
) -> None:
    media = find_media([videos])

    failed = job(media, tmp_path / "out", clip_tower, options={"store": "float32"}).run()

    assert failed == 1
    rows, header = load_features(tmp_path / "out/P03/cam01/P03_tea.avi.safetensors")
    expected = of_upstream(videos / "P03/cam01/P03_tea.avi", clip_tower, 8)
    assert rows.shape == (8 + 4, 1, 32)
    torch.testing.assert_close(rows[:, 0], expected, rtol=1e-4, atol=1e-4)
    assert (header.pooling, header.num_frames, header.total_frames) == ("spatio_temporal", 8, 30)
    assert header.sampling == {"num_frames": 8, "formula": "segments"}
    assert header.source == "P03/cam01/P03_tea.avi"
    assert len(header.source_sha256) == 64


def test_a_bad_video_is_listed_and_stops_nothing(
    tmp_path: Path, videos: Path, clip_tower: Path
) -> None:
    work = job(find_media([videos]), tmp_path / "out", clip_tower)

    assert work.run() == 1

    tea, bad, milk = work.records()
    assert bad["video"] == "P04/cam02/P04_bad.avi"
    assert "text file" in bad["error"]
    assert tea["features"] == {"": "P03/cam01/P03_tea.avi.safetensors"}
    assert milk["total_frames"] == 12
    assert find_features(videos / tea["video"], tmp_path / "out").is_file()


def test_a_pattern_names_the_parts_of_a_path(videos: Path) -> None:
    (videos / "notes.txt").write_text("no video")

    media = find_media([videos], pattern="{person}/{camera}/{video}.avi")

    assert [m.fields["person"] for m in media] == ["P03", "P04", "P04"]
    assert media[0].fields == {"person": "P03", "camera": "cam01", "video": "P03_tea"}
    assert len(find_media([videos], pattern="**/{video}_tea.avi")) == 1
    with pytest.raises(UsageError, match="matches"):
        find_media([videos], pattern="{video}.mp4")
    with pytest.raises(UsageError, match="twice"):
        find_media([videos], pattern="{a}/{a}.avi")


@pytest.mark.parametrize(
    ("kind", "shape", "layers"),
    [
        ("layers", (8, 4, 32), (0, 1, 2, 3)),
        ("cls", (8, 1, 32), (-1,)),
        ("patches", (8 * 4, 1, 32), (-2,)),
        ("spatio_temporal", (8 + 4, 1, 32), (-2,)),
    ],
)
def test_every_kind_has_its_shape(
    tmp_path: Path, videos: Path, clip_tower: Path, kind: Any, shape: Any, layers: Any
) -> None:
    media = find_media([videos / "P03/cam01"])
    job(media, tmp_path, clip_tower, options={"kind": kind, "store": "bfloat16"}).run()

    rows, header = load_features(tmp_path / "P03_tea.avi.safetensors")

    assert (rows.shape, rows.dtype) == (shape, torch.bfloat16)
    assert header.select_layers == layers


def test_layers_are_the_class_tokens_after_the_last_norm(
    tmp_path: Path, videos: Path, clip_tower: Path
) -> None:
    media = find_media([videos / "P03/cam01"])
    both = {"kind": "layers", "store": "float32"}
    job(media, tmp_path / "all", clip_tower, options=both).run()
    job(media, tmp_path / "two", clip_tower, options=both | {"layers": (1, -1)}).run()
    job(media, tmp_path / "cls", clip_tower, options={"kind": "cls", "store": "float32"}).run()

    every, _ = load_features(tmp_path / "all/P03_tea.avi.safetensors")
    two, _ = load_features(tmp_path / "two/P03_tea.avi.safetensors")
    pooled, _ = load_features(tmp_path / "cls/P03_tea.avi.safetensors")

    torch.testing.assert_close(two, every[:, [1, 3]])
    torch.testing.assert_close(pooled, every[:, 3:])
    model = CLIPVisionModel.from_pretrained(clip_tower).eval()
    frames = load_frames(media[0].path, num_frames=8, formula="segments").pixels
    squares = torch.nn.functional.interpolate(torch.from_numpy(frames).permute(0, 3, 1, 2), 28)
    processor = AutoImageProcessor.from_pretrained(clip_tower)
    inputs = processor(list(squares), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        expected = model(inputs).pooler_output
    torch.testing.assert_close(pooled[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_short_videos_are_repeated_up_to_an_exact_count(
    tmp_path: Path, videos: Path, clip_tower: Path
) -> None:
    media = find_media([videos / "P04/cam02/P04_milk.avi"])
    wanted = {"kind": "cls", "exact_frames": 40}
    job(media, tmp_path, clip_tower, options=wanted, sampling=FrameSampling(num_frames=40)).run()

    rows, header = load_features(tmp_path / "P04_milk.avi.safetensors")

    borders = np.round(np.arange(41) * 11 / 40)
    positions = ((borders[:-1] + borders[1:]) // 2).astype(int)
    assert rows.shape == (40, 1, 32)
    assert len(header.seconds) == header.num_frames == 40
    assert len(torch.unique(rows.float(), dim=0)) == len(set(positions.tolist()))


def test_siglip_and_convolutional_towers_work_too(tmp_path: Path, videos: Path) -> None:
    media = find_media([videos / "P03/cam01"])
    job(media, tmp_path / "s", make_siglip(tmp_path / "siglip")).run()
    rows, header = load_features(tmp_path / "s/P03_tea.avi.safetensors")
    assert (rows.shape, header.tower) == ((12, 1, 32), "siglip_vision_model 32 2x2")

    with pytest.raises(UsageError, match="class token"):
        job(media, tmp_path / "c", tmp_path / "siglip", options={"kind": "cls"}).run()

    try:
        job(media, tmp_path / "e", Path("efficientnet_lite0")).run()
    except MissingPackage:
        pytest.skip("the package of efficientnet_lite0 is not installed")
    rows, header = load_features(tmp_path / "e/P03_tea.avi.safetensors")
    assert (rows.shape, header.select_layers) == ((8 + 49, 1, 1280), (-1,))


def test_copies_are_made_on_the_fly_and_never_of_a_copy(
    tmp_path: Path, videos: Path, clip_tower: Path
) -> None:
    folder = videos / "P03/cam01"
    for copy in ("P03_tea_flip.avi", "P03_tea_contrast_flip_bright.avi", "P03_soup_crop.avi"):
        shutil.copy(folder / "P03_tea.avi", folder / copy)
    shutil.copy(folder / "P03_tea.avi", folder / "P03_tea_contrast_flip.avi")

    media, copies = without_copies(find_media([folder]))

    assert [m.path.name for m in media] == ["P03_soup_crop.avi", "P03_tea.avi"]
    assert {str(name) for name in copies} == {
        "P03_tea_flip.avi",
        "P03_tea_contrast_flip.avi",
        "P03_tea_contrast_flip_bright.avi",
    }
    work = job(media[1:], tmp_path / "out", clip_tower, options={"augment": ("flip,sharp",)})
    work.run()
    assert set(work.records()[0]["features"]) == {"", "flip", "sharp"}
    rows, _ = load_features(tmp_path / "out/P03_tea.avi.safetensors")
    flipped, header = load_features(tmp_path / "out/P03_tea.avi.flip.safetensors")
    assert header.variant == "flip"
    assert not torch.equal(rows, flipped)


def test_a_second_run_does_only_what_changed(
    tmp_path: Path, videos: Path, clip_tower: Path
) -> None:
    ended: list[str] = []
    work = job(find_media([videos]), tmp_path / "out", clip_tower)
    work.run()
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")}

    again = replace(work, media=find_media([videos]))

    def tell(progress):
        if progress.unit is not None:
            ended.append(progress.unit.payload["name"])

    assert again.run(tell) == 1
    assert ended == []
    assert {p: p.stat().st_mtime_ns for p in times} == times

    make_clip(videos / "P04/cam02/P04_milk.avi", num_frames=20, codec="mpeg4")
    (tmp_path / "out/P03/cam01/P03_tea.avi.safetensors").unlink()
    replace(work, media=find_media([videos])).run(tell)

    assert sorted(ended) == ["P03/cam01/P03_tea.avi", "P04/cam02/P04_milk.avi"]
    _, header = load_features(tmp_path / "out/P04/cam02/P04_milk.avi.safetensors")
    assert header.total_frames == 20


def test_a_video_that_is_not_asked_for_is_left_alone_also_when_its_file_is_gone(
    tmp_path: Path, videos: Path, clip_tower: Path
) -> None:
    job(find_media([videos], pattern="**/*.avi"), tmp_path / "out", clip_tower).run()
    (tmp_path / "out/P03/cam01/P03_tea.avi.safetensors").unlink()

    media = find_media([videos], pattern="P04/**/*_milk.avi")
    assert job(media, tmp_path / "out", clip_tower).run() == 0

    assert not (tmp_path / "out/P03/cam01/P03_tea.avi.safetensors").exists()


def test_other_settings_are_refused_unless_forced(
    tmp_path: Path, videos: Path, clip_tower: Path
) -> None:
    media = find_media([videos / "P03/cam01"])
    job(media, tmp_path, clip_tower).run()

    with pytest.raises(UsageError, match="other settings"):
        job(media, tmp_path, clip_tower, options={"kind": "cls"}).run()

    forced = job(media, tmp_path, clip_tower, options={"kind": "cls"}, force=True)
    assert forced.run() == 0
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    assert replace(forced, force=False).run() == 0
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert forced.run() == 0
    assert all(p.stat().st_mtime_ns > before for p, before in times.items())


def test_two_devices_write_the_same_bytes_as_one(
    tmp_path: Path, videos: Path, clip_tower: Path
) -> None:
    media = find_media([videos])
    job(media, tmp_path / "one", clip_tower).run()
    job(media, tmp_path / "two", clip_tower, devices=("cpu", "cpu")).run()

    files = [p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.safetensors")]

    assert len(files) == 2
    for name in [*files, "features.jsonl"]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_index_is_one_json_object_a_video(
    tmp_path: Path, videos: Path, clip_tower: Path
) -> None:
    work = job(find_media([videos], pattern="{person}/{camera}/{video}.avi"), tmp_path, clip_tower)
    work.run()

    rows = [json.loads(line) for line in (tmp_path / "features.jsonl").read_text().splitlines()]

    assert rows == work.records()
    assert rows[0]["fields"] == {"person": "P03", "camera": "cam01", "video": "P03_tea"}
    assert rows[0]["video"] == "P03/cam01/P03_tea.avi"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--augment", "flop"], "no augmentation 'flop'"),
        (["--layers", "9"], "--layers 9 is no state"),
        (["--layers", "-9"], "--layers -9 is no state"),
        (["--pattern", "{a}.mkv"], "matches {a}.mkv"),
        (["--batch-size", "0"], "--batch-size is 0"),
    ],
)
def test_a_mistake_is_named_and_ends_with_status_two(
    tmp_path: Path,
    videos: Path,
    clip_tower: Path,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = run(["features", str(videos), "-o", str(tmp_path), "--tower", str(clip_tower), *words])

    assert status == 2
    assert said in capsys.readouterr().err


def test_a_limit_loses_no_features_and_files_of_others_are_kept(videos, clip_tower, tmp_path):
    output = tmp_path / "features"
    output.mkdir()
    (output / "features.jsonl").write_text("my notes")
    media = find_media([str(videos)])
    with pytest.raises(UsageError, match=r"features\.jsonl is there already"):
        job(media, output, clip_tower).run()
    assert (output / "features.jsonl").read_text() == "my notes"
    assert job(media, output, clip_tower, force=True).run() == 1
    whole = [record for record in job(media, output, clip_tower).records() if "features" in record]
    job(media, output, clip_tower, limit=1).run()
    kept = job(media, output, clip_tower).records()
    assert sorted(r["video"] for r in kept if "features" in r) == sorted(r["video"] for r in whole)
