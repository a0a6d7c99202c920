"""What is flagged as unusable stands nowhere without its flag; what a model writes obeys nobody."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import av
import pytest

from kinema.captioning.exports import RUN_EXPORTS, VIDEO_EXPORTS, write_run, write_video
from kinema.captioning.quality import flagged
from kinema.captioning.records import Caption, VideoRecord
from kinema.captioning.segments import SegmentOptions
from kinema.jobs.inputs import find_inputs
from kinema.messages import Completion
from kinema.tasks.caption.job import CaptionJob
from kinema.tasks.caption.settings import CaptionOptions, CaptionSettings
from support.clips import make_clip
from support.scripted import ScriptedModel

GOOD = "A grey cat sits on a mat near the window."
BAD = {
    "refusal": ("I'm sorry, but I can't help with that request.", "stop"),
    "refused by the server": ("Not allowed.", "refusal"),
    "truncated": ("A brown dog runs after the red bal", "length"),
    "empty": ("", "stop"),
    "another language": ("Eine graue Katze sitzt auf einer Matte neben dem Fenster.", "stop"),
}


def described(tmp_path, captions, *, words=None, **options):
    """The record of a clip whose segments get these captions, each with its finish reason."""
    make_clip(tmp_path / "clip.mp4", num_frames=20 * len(captions) - 2, fps=10)
    words = words or (lambda text: Completion("", "A cat on a mat."))

    def reply(request):
        if not request.media:
            return replace(words(request.conversation.messages[-1].text), request_id=request.id)
        text, finish = captions[int(request.media[0].frames.seconds[0] // 2)]
        return Completion(request.id, text, finish)

    model = ScriptedModel(reply)
    say = CaptionSettings(
        model=model,
        segments=SegmentOptions(batch_size=2),
        options=CaptionOptions(language="English", **options),
    )
    job = CaptionJob(inputs=find_inputs([tmp_path / "clip.mp4"]), state=tmp_path / "s", say=say)
    job.run()
    (found,) = job.results()
    return found.record, model


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("summary_by", ["model", "extract"])
def test_a_caption_that_cannot_be_used_enters_no_title_summary_chapter_or_subtitle(
    tmp_path, kind, summary_by
):
    record, model = described(
        tmp_path, [BAD[kind], (GOOD, "stop"), BAD[kind]], summary_by=summary_by
    )
    (chapter,) = record.chapters
    assert chapter.captions == (1,)
    bad = BAD[kind][0]
    asked = [r.conversation.messages[-1].text for r in model.asked if not r.media]
    said = [record.title, record.summary_text, chapter.title, *asked]
    assert record.summary
    assert not bad or not any(bad in text for text in said)
    assert [caption.text for caption in record.captions] == [bad, GOOD, bad]
    write_video(record, ("srt", "vtt", "chapters", "ffmetadata", "edl"), tmp_path, "out")
    for file in ("out.srt", "out.vtt", "out.chapters.vtt", "out.ffmetadata", "out.edl"):
        text = (tmp_path / file).read_text()
        # No exporter can tell a language; the flag of the run does.
        assert kind == "another language" or not bad or f"{bad}\n" not in text


def test_the_flag_of_another_language_keeps_a_caption_out_of_subtitles(tmp_path):
    record, _ = described(tmp_path, [BAD["another language"], (GOOD, "stop")])
    marked = flagged(record, wanted="en", language=lambda text: "de" if "Katze" in text else "en")
    write_video(marked, ("srt", "html", "markdown"), tmp_path, "out")
    assert "Katze" not in (tmp_path / "out.srt").read_text()
    assert "(wrong_language) Eine graue Katze" in (tmp_path / "out.md").read_text()
    assert "Eine graue Katze" in (tmp_path / "out.html").read_text()


def test_a_video_without_a_caption_that_can_be_used_has_no_title(tmp_path):
    record, _ = described(tmp_path, [BAD["refusal"], BAD["truncated"]])
    assert (record.title, record.summary, record.chapters) == ("", (), ())
    write_video(record, ("srt", "markdown", "html"), tmp_path, "out")
    assert (tmp_path / "out.srt").read_text() == ""
    assert "sorry" in (tmp_path / "out.md").read_text()


@pytest.mark.parametrize("kind", ["refusal", "refused by the server", "empty", "another language"])
def test_a_summary_or_title_that_cannot_be_used_is_made_of_the_captions(tmp_path, kind):
    text, finish = BAD[kind]
    record, _ = described(
        tmp_path, [(GOOD, "stop"), (GOOD, "stop")], words=lambda _: Completion("", text, finish)
    )
    assert record.summary_text == GOOD
    assert record.title == GOOD.rstrip(".")


def test_the_cut_end_of_a_summary_is_left_out(tmp_path):
    said = Completion("", "A cat sits [1]. It looks out of the win", "length")
    record, _ = described(tmp_path, [(GOOD, "stop"), (GOOD, "stop")], words=lambda _: said)
    assert record.summary_text == "A cat sits."


ODD = "=1+1 <b>bold</b> {\\an8}top <font color='red'>red</font> --> \x1b[31m\x07\u202eback a<b 3>2"


@pytest.fixture
def odd(tmp_path):
    caption = Caption(
        index=0,
        start_seconds=0.0,
        end_seconds=2.0,
        text=ODD,
        frame_indices=(),
        frame_seconds=(),
    )
    record = VideoRecord(
        source="a`b\n# c.mp4", status="ok", duration_seconds=2.0, title=ODD, captions=(caption,)
    )
    write_video(record, VIDEO_EXPORTS, tmp_path, "clip")
    write_run(lambda: iter([record]), ("csv",), tmp_path)
    return tmp_path


def test_no_style_or_override_is_left_in_subrip(odd):
    text = (odd / "clip.srt").read_text()
    assert "=1+1 ‹b›bold‹/b› (\\an8)top ‹font color='red'›red‹/font› → [31mback a‹b 3›2" in text
    assert text.count("-->") == 1
    with av.open(odd / "clip.srt") as file:
        (packet, *_) = file.demux(subtitles=0)
        (subtitle,) = packet.decode()
    assert b"\\b1" not in subtitle.ass
    assert b"{\\an8}" not in subtitle.ass


@pytest.mark.parametrize("name", ["srt", "vtt", "ffmetadata", "md", "edl"])
def test_nothing_that_terminals_and_editors_obey_is_written(odd, name):
    text = (odd / f"clip.{name}").read_text()
    assert not set("\x1b\x07\u202e") & set(text)


def test_a_page_in_markdown_holds_the_words_and_no_markup(odd):
    text = (odd / "clip.md").read_text()
    assert "\\<b\\>bold" in text
    assert "`a'b # c.mp4`" in text
    assert "<b>" not in text.replace("\\<", "")


def test_a_spreadsheet_takes_no_caption_for_a_formula(odd):
    (row,) = csv.DictReader(io.StringIO((odd / "captions.csv").read_text(), newline=""))
    assert row["caption"].startswith("'=1+1")
    assert row["title"].startswith("'=1+1")
    assert "csv" in RUN_EXPORTS
