"""Damage that lies between a key frame and a wanted frame is said of that frame."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from faults.sampled import compare_all
from kinema.video import load_frames
from kinema.video.cache import cached_index
from kinema.video.pyav import decode
from kinema.video.source import open_media
from support.clips import board, make_clip, read_boards


def test_sampled_frames_of_damaged_files_are_those_of_the_whole_or_it_is_said() -> None:
    result = compare_all(range(30_000, 30_400))
    assert result.count > 250
    # The damage is neither so mild that nothing is said nor so coarse that nothing is read.
    said = sum(count for name, count in result.outcomes.items() if "damage said" in name)
    assert min(result.outcomes["same pictures"], said) > 20
    assert result.outcomes["whole fails"] == 0
    assert len(result.said) <= result.count // 50
    assert result.num_silent <= 1, result


def with_noise(path: Path, packet_number: int) -> Path:
    """The same file, the middle of one packet overwritten."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][packet_number]
    noise = np.random.default_rng(3).bytes(packet.size // 2)
    start = data.index(bytes(packet)) + packet.size // 4
    data[start : start + len(noise)] = noise
    other = path.with_stem("damaged")
    other.write_bytes(data)
    return other


@pytest.mark.fault(6)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_damage_before_a_frame_in_its_group_is_said_of_it(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (64, 96, 3), dtype=np.uint8)
    pictures = [np.roll(noise, i, axis=1) + board(i) // 2 for i in range(60)]
    options = {"g": "20", "bf": "0", "sc_threshold": "0", "crf": "4"}
    path = tmp_path / f"c.{suffix}"
    make_clip(path, num_frames=60, options=options, pictures=pictures)
    damaged = with_noise(path, 25)
    frames = load_frames(damaged, at=[0.8, 1.4, 1.8])
    assert frames.indices.tolist() == [20, 35, 45]
    assert any("marked as corrupt: 35." in warning for warning in frames.warnings)
    assert frames.damaged_frames == 1
    clean = load_frames(path, at=[0.8, 1.8])
    np.testing.assert_array_equal(frames.pixels[[0, 2]], clean.pixels)
    assert not load_frames(damaged, at=[0.8, 1.8]).warnings


@pytest.mark.fault(6)
def test_a_reference_that_was_lost_is_said_of_the_frames_after_it(tmp_path: Path) -> None:
    """A packet that is missing altogether leaves a gap in the numbers of H.264's frames."""
    make_clip(
        tmp_path / "c.mp4", num_frames=40, options={"g": "20", "bf": "0", "sc_threshold": "0"}
    )
    path = tmp_path / "lost.mkv"
    with av.open(str(tmp_path / "c.mp4")) as inp, av.open(str(path), "w") as out:
        target = out.add_stream_from_template(inp.streams.video[0])
        for number, packet in enumerate(p for p in inp.demux(video=0) if p.size):
            if number != 25:
                packet.stream = target
                out.mux(packet)
    assert load_frames(path, at=[1.28]).damaged_frames
    assert not load_frames(path, at=[0.4]).damaged_frames


@pytest.mark.fault(12)
def test_pictures_that_change_size_become_those_of_the_first_whichever_thread_is_first(
    tmp_path: Path,
) -> None:
    offset = {"output_ts_offset": "2.2"}
    make_clip(tmp_path / "a.ts", num_frames=50, options={"g": "10"})
    make_clip(
        tmp_path / "b.ts",
        num_frames=50,
        height=128,
        width=192,
        options={"g": "25"},
        pictures=[board(i + 50, height=128, width=192) for i in range(50)],
        container_options=offset,
    )
    path = tmp_path / "ab.ts"
    path.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    media = open_media(path)
    index = cached_index(media)
    assert not index.front_to_back
    wanted = np.array([5, 15, 49, 60, 74, 99])
    seen = [decode(media, index, wanted, num_threads=threads).pixels for threads in (1, 2, 2, 3, 6)]
    for pixels in seen:
        assert pixels.shape == (6, 64, 96, 3)
        np.testing.assert_array_equal(pixels, seen[0])
        assert read_boards(pixels) == wanted.tolist()
    late = decode(media, index, wanted[3:], num_threads=2)
    assert late.pixels.shape == (3, 128, 192, 3)
