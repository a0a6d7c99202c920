"""Each format says the same as the record, in its own words."""

import csv
import json
import tarfile
from dataclasses import replace

import av
import opentimelineio as otio
import pytest
from pyarrow import parquet

from kinema.captioning.exports import RUN_EXPORTS, VIDEO_EXPORTS, write_run, write_video
from kinema.captioning.exports.edl import timecode
from kinema.captioning.records import Caption, Chapter, Sentence, VideoRecord
from kinema.video import load_frames
from support.clips import make_clip

ODD = 'a <b>tag</b> & "quotes";\n\n00:00 --> 00:01 = #1'


@pytest.fixture
def record(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", num_frames=20, fps=5)
    captions = tuple(
        Caption(
            index=i,
            start_seconds=2.0 * i,
            end_seconds=2.0 * i + 2,
            text=text,
            frame_indices=(10 * i, 10 * i + 5),
            frame_seconds=(2.0 * i, 2.0 * i + 1),
        )
        for i, text in enumerate(["A dog runs.", ODD])
    )
    summary = (Sentence(text="A dog; a tag.", sources=(0, 1), support=0.5),)
    return VideoRecord(
        source=str(source),
        status="ok",
        duration_seconds=4.0,
        title="Dog = tag",
        summary=summary,
        chapters=(
            Chapter(
                index=0,
                start_seconds=0.0,
                end_seconds=4.0,
                title="Dog = tag",
                summary=summary,
                captions=(0, 1),
            ),
        ),
        captions=captions,
        info={"fps": 5.0, "width": 96, "height": 64, "codec": "h264"},
    )


@pytest.fixture
def written(record, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write_video(record, VIDEO_EXPORTS, out, "clip", load=load_frames)
    failed = replace(record, status="failed", captions=(), summary=(), chapters=(), error="gone")
    write_run(lambda: iter([record, failed]), RUN_EXPORTS, out, load=load_frames)
    return out


def test_every_format_writes_its_file_and_leaves_no_draft(written):
    assert sorted(path.name for path in written.iterdir()) == [
        "captions.csv",
        "captions.jsonl",
        "captions.parquet",
        "captions.tar",
        "clip.chapters.vtt",
        "clip.edl",
        "clip.ffmetadata",
        "clip.html",
        "clip.json",
        "clip.md",
        "clip.otio",
        "clip.srt",
        "clip.vtt",
        "failed.jsonl",
        "triage.csv",
    ]


def test_json_reads_back_as_the_same_record(written, record):
    assert VideoRecord.from_dict(json.loads((written / "clip.json").read_text())) == record
    first, second = (json.loads(x) for x in (written / "captions.jsonl").read_text().splitlines())
    assert VideoRecord.from_dict(first) == record
    assert (second["status"], second["error"]) == ("failed", "gone")


def test_subtitles_are_read_by_ffmpeg_with_our_times(written):
    for name in ("clip.srt", "clip.vtt", "clip.chapters.vtt"):
        with av.open(written / name) as file:
            (stream,) = file.streams.subtitles
            # FFmpeg ends a stream with an empty packet.
            packets = [packet for packet in file.demux(stream) if packet.size]
            times = [(float(p.pts * p.time_base), float(p.duration * p.time_base)) for p in packets]
        assert times == ([(0.0, 4.0)] if "chapters" in name else [(0.0, 2.0), (2.0, 2.0)])


def test_ffmpeg_reads_chapters_and_title_back(written, record, tmp_path):
    target = tmp_path / "with_chapters.mp4"
    # As ``ffmpeg -i clip.mp4 -i clip.ffmetadata -map_metadata 1 -codec copy`` does it.
    with (
        av.open(record.source) as source,
        av.open(written / "clip.ffmetadata") as words,
        av.open(target, "w") as copy,
    ):
        stream = copy.add_stream_from_template(source.streams.video[0])
        copy.metadata.update(words.metadata)
        copy.set_chapters(words.chapters())
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    with av.open(target) as file:
        (chapter,) = file.chapters()
        assert chapter["metadata"]["title"] == "Dog = tag"
        assert chapter["start"] == 0
        assert chapter["end"] * chapter["time_base"] == 4
        assert file.metadata["title"] == "Dog = tag"


def test_tables_have_a_row_a_caption_and_one_for_a_failed_video(written):
    rows = list(csv.DictReader((written / "captions.csv").read_text().splitlines(keepends=True)))
    assert [row["caption"] for row in rows] == ["A dog runs.", ODD, ""]
    table = parquet.read_table(written / "captions.parquet").to_pylist()
    assert [row["caption"] for row in table] == ["A dog runs.", ODD, None]
    assert table[1]["frame_seconds"] == [2.0, 3.0]
    assert table[2]["error"] == "gone"


def test_a_webdataset_sample_holds_picture_words_and_facts(written):
    with tarfile.open(written / "captions.tar") as tar:
        names = tar.getnames()
        first = tar.extractfile(names[1]).read().decode()
        about = json.loads(tar.extractfile(names[2]).read())
    assert [name.rpartition(".")[2] for name in names] == ["jpg", "txt", "json"] * 2
    assert first == "A dog runs."
    assert about["frame_seconds"] == [0.0, 1.0]


def test_an_editor_reads_the_timeline(written):
    timeline = otio.adapters.read_from_file(str(written / "clip.otio"))
    clips = list(timeline.tracks[0])
    assert [clip.metadata["kinema"]["caption"] for clip in clips] == ["A dog runs.", ODD]
    assert clips[1].source_range.start_time.to_seconds() == 2.0
    assert (
        "001  AX       V     C        00:00:00:00 00:00:02:00" in (written / "clip.edl").read_text()
    )


def test_timecode_counts_true_frames_at_the_nominal_rate():
    assert timecode(3600.0, 25.0) == "01:00:00:00"
    assert timecode(1.001, 30000 / 1001) == "00:00:01:00"


def test_pages_show_captions_as_text_and_never_as_markup(written):
    page = (written / "clip.html").read_text()
    assert "<b>tag</b>" not in page
    assert "&lt;b&gt;tag&lt;/b&gt;" in page
    assert page.count('<img alt="" src="data:image/jpeg') == 2
    assert 'src="../clip.mp4"' in page
    assert "\\<b\\>tag" in (written / "clip.md").read_text()
