"""The HTML report of a captioned video in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from kinema.cli.app import run
from support.browser import chromium, needs_chromium
from support.clips import EXAMPLE

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report")
    words = ["caption", EXAMPLE, "-m", "echo", "--batch-size", "2", "--chapter-seconds", "3"]
    assert run([*map(str, words), "--export", "html", "-o", str(out), "--quiet"]) == 0
    return out / f"{EXAMPLE.stem}.html"


@pytest.fixture
def page(report):
    with chromium() as browser:
        page = browser.new_page()
        problems = []
        page.on("pageerror", lambda problem: problems.append(str(problem)))
        page.goto(report.as_uri())
        page.wait_for_function("document.querySelector('video').readyState >= 1")
        yield page
        assert problems == []


def seconds_of(page) -> float:
    return page.evaluate("document.querySelector('video').currentTime")


def paused_at(page, button) -> float:
    """Where a click takes the player, before it plays on."""
    page.evaluate("HTMLMediaElement.prototype.play = () => {}")
    button.click()
    return seconds_of(page)


def test_the_video_plays_and_every_caption_chapter_and_picture_is_there(page):
    assert page.evaluate("document.querySelector('video').duration") == pytest.approx(6, abs=0.1)
    expect(page.locator(".caption")).to_have_count(3)
    expect(page.locator("nav button")).to_have_count(page.locator("h2").count())
    page.locator("summary").first.click()
    for picture in page.locator("img").all():
        assert picture.evaluate("image => image.naturalWidth") > 0


def test_chapters_captions_and_sources_take_the_player_to_their_time(page):
    last = page.locator("nav button").last
    assert paused_at(page, last) == pytest.approx(float(last.get_attribute("data-at")))
    second = page.locator(".caption button").nth(1)
    assert paused_at(page, second) == pytest.approx(2, abs=0.01)
    expect(page.locator(".caption").nth(1)).to_have_class("caption now")
    source = page.locator("button.source").first
    assert paused_at(page, source) == pytest.approx(float(source.get_attribute("data-at")))
