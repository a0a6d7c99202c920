"""Each format says the same as the record, in its own words."""

import csv
import json
import tarfile
from dataclasses import replace
from fractions import Fraction

import av
import opentimelineio as otio
import pytest
from pyarrow import parquet

from kinema.captioning.exports import RUN_EXPORTS, VIDEO_EXPORTS, write_run, write_video
from kinema.captioning.exports.timecode import FrameClock, usual_rate
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


def at(seconds, fps, start=None):
    info = {"fps": fps, "start_timecode": start}
    clock = FrameClock.of(VideoRecord(source="a.mov", status="ok", info=info))
    return clock.timecode(clock.first + clock.frame(seconds))


def test_timecode_counts_true_frames_at_the_nominal_rate():
    assert at(3600.0, 25.0) == "01:00:00:00"
    assert at(1.001, 30000 / 1001) == "00:00:01:00"
    assert at(2.0, 29.97003, "00:59:58;00") == "01:00:00;00"
    assert at(1.0, 25.0, "10:00:00:00") == "10:00:01:00"
    assert at(2.0, 25.0, "23:59:59:00") == "00:00:01:00"
    assert at(1.0, 25.0, "not a timecode") == "00:00:01:00"


@pytest.mark.parametrize(
    ("rate", "drop"),
    [
        *((rate, False) for rate in (24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0)),
        *((rate, True) for rate in (30000 / 1001, 60000 / 1001)),
    ],
)
def test_timecode_is_what_opentimelineio_writes(rate, drop):
    mark = ";" if drop else ":"
    first = f"00:00:00{mark}00"
    hour = round(3600 * rate)
    for frame in (*range(0, 4000, 7), *range(17_900, 18_100), *range(hour - 99, hour + 99)):
        ours = at(frame / rate, rate, first)
        time = otio.opentime.RationalTime(frame, rate)
        assert ours == otio.opentime.to_timecode(time, rate, drop_frame=drop)
        info = {"fps": rate, "start_timecode": ours}
        clock = FrameClock.of(VideoRecord(source="a.mov", status="ok", info=info))
        assert clock.first == otio.opentime.from_timecode(ours, rate).value == frame


@pytest.mark.parametrize(
    ("measured", "rate"),
    [
        (29.97003, Fraction(30000, 1001)),
        (29.968, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (25.0, 25),
        (59.94, Fraction(60000, 1001)),
        (10.0, 10),
        (17.3, Fraction(24000, 1001)),
    ],
)
def test_a_measured_rate_becomes_one_that_editing_programs_know(measured, rate):
    assert usual_rate(measured) == rate


def test_edit_list_and_timeline_of_one_run_agree_to_the_frame(tmp_path, record):
    record = replace(
        record,
        duration_seconds=40.04,
        info={"fps": 29.97003, "start_timecode": "00:59:58;00"},
        captions=tuple(
            replace(one, start_seconds=start, end_seconds=end)
            for one, (start, end) in zip(
                record.captions, [(0.0, 1.0), (7.4321, 40.04)], strict=True
            )
        ),
    )
    write_video(record, ["edl", "otio"], tmp_path, "clip")
    edl = (tmp_path / "clip.edl").read_text().splitlines()
    assert edl[1] == "FCM: DROP FRAME"
    events = [line.split()[4:] for line in edl if line[:3].isdigit()]
    timeline = otio.adapters.read_from_file(str(tmp_path / "clip.otio"))
    rate = 30000 / 1001
    assert otio.opentime.RationalTime.is_valid_timecode_rate(rate)
    first, gap, second = timeline.tracks[0]
    assert isinstance(gap, otio.schema.Gap)
    for clip, event in zip((first, second), events, strict=True):
        own = clip.source_range
        placed = clip.range_in_parent()
        times = [own.start_time, own.end_time_exclusive()]
        times += [placed.start_time, placed.end_time_exclusive()]
        assert all(time.rate == rate and time.value == round(time.value) for time in times)
        assert [t.to_timecode(rate, drop_frame=True) for t in times] == event
    assert events[0] == ["00:59:58;00", "00:59:59;00", "00:00:00;00", "00:00:01;00"]
    media = second.media_reference.available_range
    assert media.start_time.to_timecode(rate, drop_frame=True) == "00:59:58;00"
    assert media.duration.value == 1200


def test_pages_show_captions_as_text_and_never_as_markup(written):
    page = (written / "clip.html").read_text()
    assert "<b>tag</b>" not in page
    assert "&lt;b&gt;tag&lt;/b&gt;" in page
    assert page.count('<img alt="" src="data:image/jpeg') == 2
    assert 'src="../clip.mp4"' in page
    assert "\\<b\\>tag" in (written / "clip.md").read_text()
