"""A page to look at a video and its captions: click a chapter, caption or source and it plays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from html import escape
from pathlib import Path
from urllib.parse import quote

from kinema.captioning.exports import Load, VideoExport
from kinema.captioning.exports.pictures import data_address, middles, sheet
from kinema.captioning.records import Caption, Chapter, VideoRecord
from kinema.captioning.text import short_clock
from kinema.files import write_atomically

_MOST_THUMBNAILS = 200
"""A longer page shows contact sheets alone."""
_SHEET_FRAMES = 12

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --mark: #f5b70033; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1200px; padding: 1rem; }
main { display: grid; grid-template-columns: minmax(320px, 45%) 1fr; gap: 1.5rem; }
aside { position: sticky; top: 1rem; align-self: start; }
video { width: 100%; background: #000; border-radius: 6px; }
h1 { font-size: 1.4rem; margin: .2rem 0; } h2 { font-size: 1.1rem; margin: 1.5rem 0 .3rem; }
button { all: unset; cursor: pointer; } button:focus-visible { outline: 2px solid; }
.at { font-variant-numeric: tabular-nums; opacity: .7; }
.source { font-size: .8em; color: #2a6fd6; margin-left: .2em; }
nav button { display: block; padding: .2rem .4rem; border-bottom: 1px solid var(--line); }
.caption { display: grid; grid-template-columns: 120px 1fr; gap: .8rem; padding: .5rem;
  border-top: 1px solid var(--line); }
.caption img { width: 120px; border-radius: 4px; } .now { background: var(--mark); }
.flag { background: #d6452a; color: #fff; border-radius: 3px; font-size: .75em; padding: 0 .3em; }
.error { color: #d6452a; } details img { max-width: 100%; }
@media (max-width: 800px) { main { display: block; } aside { position: static; } }
"""
_SCRIPT = """
const video = document.querySelector("video");
const captions = [...document.querySelectorAll(".caption")];
document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-at]");
  if (!target || !video) return;
  video.currentTime = Number(target.dataset.at);
  const play = video.play();
  if (play) play.catch(() => {});
});
video?.addEventListener("timeupdate", () => {
  for (const caption of captions) {
    const { at, end } = caption.dataset;
    caption.classList.toggle("now", at <= video.currentTime && video.currentTime < end);
  }
});
"""


def write_html(record: VideoRecord, path: Path, load: Load | None) -> None:
    """One file; pictures are inside, the video is the one that was described."""
    write_atomically(path, "\n".join(_page(record, path, load)) + "\n")


def _page(record: VideoRecord, path: Path, load: Load | None) -> Iterator[str]:
    title = escape(record.title or Path(record.source).name)
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>"
    yield "<main>\n<aside>"
    yield from _player(record, path)
    yield from _summary(record)
    yield from _chapter_list(record)
    yield "</aside>\n<section>"
    thumbnails = _thumbnails(record, load)
    for chapter in record.chapters:
        yield from _chapter(record, chapter, thumbnails, load)
    yield from _left_out(record)
    yield f"</section>\n</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>"


def _player(record: VideoRecord, path: Path) -> Iterator[str]:
    source = Path(record.source)
    if source.is_file():
        address = quote(os.path.relpath(source, path.parent))
        yield f'<video controls preload="metadata" src="{escape(address)}"></video>'
    facts = [record.source, short_clock(record.duration_seconds)]
    info = record.info or {}
    facts += [f"{info['width']}×{info['height']}", info["codec"]] if info else []
    yield f'<p class="at">{escape(" · ".join(map(str, facts)))}</p>'
    for warning in record.warnings:
        yield f'<p class="error">{escape(warning)}</p>'


def _summary(record: VideoRecord) -> Iterator[str]:
    starts = {caption.index: caption.start_seconds for caption in record.captions}
    yield "<p>"
    for sentence in record.summary:
        yield escape(sentence.text)
        for index in sentence.sources:
            yield f'<button class="source" data-at="{starts[index]}">[{index + 1}]</button>'
    yield "</p>"


def _chapter_list(record: VideoRecord) -> Iterator[str]:
    yield '<nav aria-label="Chapters">'
    for chapter in record.chapters:
        at = f'<span class="at">{short_clock(chapter.start_seconds)}</span>'
        name = escape(chapter.title or f"Chapter {chapter.index + 1}")
        yield f'<button data-at="{chapter.start_seconds}">{at} {name}</button>'
    yield "</nav>"


def _chapter(
    record: VideoRecord,
    chapter: Chapter,
    thumbnails: dict[int, str | None],
    load: Load | None,
) -> Iterator[str]:
    begin, end = short_clock(chapter.start_seconds), short_clock(chapter.end_seconds)
    yield f'<h2>{escape(chapter.title)} <span class="at">{begin}–{end}</span></h2>'
    if pictures := data_address(sheet(record, chapter, load, most=_SHEET_FRAMES)):
        yield "<details><summary>Contact sheet</summary>"
        yield f'<img alt="frames of this chapter" src="{pictures}"></details>'
    for caption in record.captions:
        if caption.index in chapter.captions:
            yield from _caption(caption, thumbnails.get(caption.index))


def _caption(caption: Caption, picture: str | None) -> Iterator[str]:
    begin, end = short_clock(caption.start_seconds), short_clock(caption.end_seconds)
    spans = f'data-at="{caption.start_seconds}" data-end="{caption.end_seconds}"'
    yield f'<div class="caption" id="caption-{caption.index + 1}" {spans}>'
    yield f'<button data-at="{caption.start_seconds}">'
    yield f'<img alt="" src="{picture}">' if picture else ""
    yield f'<span class="at">{begin}–{end}</span></button>'
    flags = " ".join(f'<span class="flag">{escape(flag)}</span>' for flag in caption.flags)
    heard = f"<br><i>“{escape(caption.speech)}”</i>" if caption.speech else ""
    yield f"<div>{escape(caption.text)} {flags}{heard}</div></div>"


def _left_out(record: VideoRecord) -> Iterator[str]:
    for caption in record.captions:
        if caption.error is not None:
            at = short_clock(caption.start_seconds)
            yield f'<p class="error">{at} no caption: {escape(caption.error)}</p>'


def _thumbnails(record: VideoRecord, load: Load | None) -> dict[int, str | None]:
    if len(record.captions) > _MOST_THUMBNAILS:
        return {}
    pairs = zip(record.captions, middles(record, load), strict=True)
    return {caption.index: data_address(picture) for caption, picture in pairs}


HTML = VideoExport(".html", write_html, shows_frames=True)
