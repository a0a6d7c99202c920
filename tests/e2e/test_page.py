"""The web page in a real browser, over the echo engine."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from support.browser import chromium, needs_chromium, visiting
from support.clips import EXAMPLE
from support.serving import Dripping, serving
from support.web import reply, serve

pytestmark = needs_chromium
SEEN = "[video 8 frames 0.38–5.62 s]"


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def server():
    with serving(private_media_hosts=("127.0.0.1",)) as running:
        yield running


@pytest.fixture
def visit(browser, server):
    with visiting(browser, server.url) as visit:
        yield visit


def test_an_upload_is_shown_asked_about_and_answered(visit):
    visit.open_file(EXAMPLE)
    expect(visit.page.locator(".strip button")).to_have_count(8)
    expect(visit.page.locator(".strip span").first).to_have_text("0:00.4")
    visit.ask("What is red?")
    expect(visit.answers.last).to_contain_text(f"{SEEN} What is red?")
    expect(visit.answers.last).to_contain_text("saw 8 of 144 frames")


def test_a_question_that_was_offered_is_one_click(visit):
    visit.open_example()
    visit.page.get_by_text("What comes first?").click()
    expect(visit.answers.last).to_contain_text(f"{SEEN} What comes first?")


def test_a_frame_of_the_strip_takes_the_player_to_its_time(visit):
    visit.open_example()
    visit.page.locator(".strip button").nth(5).click()
    assert visit.seconds == pytest.approx(4.125, abs=0.01)


def test_captions_and_chapters_take_the_player_to_their_time(visit):
    visit.open_example()
    visit.page.get_by_role("button", name="Captions and chapters").click()
    expect(visit.page.locator(".chapters button")).to_have_count(1)
    visit.page.locator(".captions button").nth(1).click()
    assert visit.seconds == pytest.approx(4.0, abs=0.01)
    visit.page.locator(".chapters button").first.click()
    assert visit.seconds == 0


def test_captions_download_as_subtitles_and_json(visit):
    visit.open_example()
    visit.page.get_by_role("button", name="Captions and chapters").click()
    with visit.page.expect_download() as srt:
        visit.page.get_by_role("link", name="SRT").click()
    assert srt.value.suggested_filename == "four_things.srt"
    assert "00:00:00,000 --> 00:00:04,000" in Path(srt.value.path()).read_text()
    with visit.page.expect_download() as whole:
        visit.page.get_by_role("link", name="JSON").click()
    assert json.loads(Path(whole.value.path()).read_text())["source"] == "four_things.mp4"


def test_the_talk_downloads_as_a_transcript(visit):
    visit.open_example()
    visit.ask("What is red?")
    with visit.page.expect_download() as transcript:
        visit.page.get_by_role("link", name="Transcript").click()
    text = Path(transcript.value.path()).read_text()
    assert "**What is red?**" in text
    assert SEEN in text


def test_a_marked_part_is_what_the_model_sees(visit):
    visit.open_example()
    track = visit.page.locator("#track")
    box = track.bounding_box()
    middle = box["y"] + box["height"] / 2
    visit.page.mouse.move(box["x"] + box["width"] / 2, middle)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + box["width"] * 3 / 4, middle, steps=4)
    visit.page.mouse.up()
    expect(visit.page.locator("#start textarea, #start input")).to_have_value("0:03.0")
    expect(visit.page.locator("#end textarea, #end input")).to_have_value("0:04.5")
    visit.ask("And here?")
    expect(visit.answers.last).to_contain_text("[video 8 frames 3.08–4.38 s] And here?")
    expect(visit.page.locator(".strip span").first).to_have_text("0:03.1")


def test_keys_mark_a_part_and_lead_to_the_question(visit):
    visit.open_example()
    visit.page.locator(".strip button").nth(1).focus()
    visit.page.keyboard.press("Enter")
    visit.page.keyboard.press("i")
    expect(visit.page.locator("#start textarea, #start input")).to_have_value("0:01.1")
    visit.page.keyboard.press("Escape")
    expect(visit.page.locator("#start textarea, #start input")).to_have_value("")
    visit.page.keyboard.press("/")
    visit.page.keyboard.type("Typed blindly")
    visit.page.keyboard.press("Enter")
    expect(visit.answers.last).to_contain_text("Typed blindly")


def test_a_follow_up_shows_the_video_once(visit):
    visit.open_example()
    visit.ask("First?")
    expect(visit.answers.last).to_contain_text("First?")
    visit.ask("Second?")
    expect(visit.answers).to_have_count(2)
    expect(visit.answers.last).to_contain_text(f"{SEEN} Second?")


def test_a_question_can_be_changed_and_what_followed_is_forgotten(visit):
    visit.open_example()
    for count, question in enumerate(("First?", "Second?"), 1):
        visit.ask(question)
        expect(visit.answers).to_have_count(count)
        expect(visit.answers.last).to_contain_text(f"{SEEN} {question}")
        visit.wait_until_answered()
    visit.page.get_by_role("button", name="Edit").first.click()
    visit.page.locator("#chat textarea").fill("Other words?")
    visit.page.get_by_role("button", name="Submit").click()
    expect(visit.answers).to_have_count(1)
    expect(visit.questions.last).to_contain_text("Other words?")
    expect(visit.answers.last).to_contain_text(f"{SEEN} Other words?")


def test_an_answer_can_be_had_again(browser):
    engine = Dripping()
    with serving(engine=engine) as server, visiting(browser, server.url) as visit:
        visit.ask("one two")
        for _ in range(3):
            engine.permits.release()
        expect(visit.answers.last).to_contain_text("one two")
        visit.wait_until_answered()
        visit.page.get_by_role("button", name="Retry").last.click()
        expect(visit.answers.get_by_text("one two")).to_have_count(0)
        for _ in range(3):
            engine.permits.release()
        expect(visit.answers.last).to_contain_text("one two")
        expect(visit.answers).to_have_count(1)


def test_words_appear_as_they_come_and_stop_stops_the_model(browser):
    engine = Dripping()
    with serving(engine=engine) as server, visiting(browser, server.url) as visit:
        visit.ask("one two three four")
        for _ in range(2):
            engine.permits.release()
        expect(visit.answers.last).to_contain_text("one two")
        visit.page.get_by_role("button", name="Stop").click()
        expect(visit.page.get_by_role("button", name="Ask")).to_be_visible()
        visit.page.wait_for_timeout(200)
        assert len(engine.stopped) == 1
        expect(visit.answers.last).to_contain_text("one two")


def test_a_link_is_fetched_through_the_gate(visit):
    with serve(reply(body=EXAMPLE.read_bytes())) as other:
        visit.page.get_by_label("Link to a video").fill(f"http://127.0.0.1:{other.port}/clip.mp4")
        visit.page.get_by_label("Link to a video").press("Enter")
        expect(visit.page.locator(".strip button")).to_have_count(8)
    visit.page.wait_for_function("document.getElementById('video').duration > 5")


@pytest.mark.parametrize("link", ["http://10.0.0.1/secret.mp4", "file:///etc/passwd", "hello"])
def test_a_link_that_may_not_be_fetched_is_explained(visit, link):
    visit.page.get_by_label("Link to a video").fill(link)
    visit.page.get_by_label("Link to a video").press("Enter")
    expect(visit.page.get_by_role("alert")).to_be_visible()
    expect(visit.page.locator(".strip")).to_have_count(0)


def test_a_file_that_is_no_video_is_explained(visit, tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("These are words.")
    visit.page.set_input_files("#file", path)
    expect(visit.page.get_by_role("alert")).to_contain_text("notes.mp4")


def test_a_part_that_is_none_is_explained_and_the_question_kept(visit):
    visit.open_example()
    visit.page.locator("#start textarea, #start input").fill("soon")
    visit.ask("What happens?")
    expect(visit.page.get_by_role("alert")).to_contain_text("'soon' is no time")
    expect(visit.page.get_by_label("Question")).to_have_value("What happens?")


def test_the_webcam_is_watched(visit):
    visit.page.get_by_role("button", name="Use the webcam").click()
    visit.page.get_by_role("button", name="Record").click()
    visit.page.wait_for_timeout(1500)
    visit.page.get_by_role("button", name="Stop and use").click()
    expect(visit.page.locator(".strip button").first).to_be_visible()
    visit.ask("Who is there?")
    expect(visit.answers.last).to_contain_text("Who is there?")


def test_model_and_sampling_are_picked(visit):
    visit.open_example()
    visit.page.get_by_text("Model and sampling").click()
    for label, value in (("Frames", "3"), ("Longest answer", "6")):
        box = visit.page.get_by_label(f"number input for {label}")
        slider = visit.page.get_by_label(f"range slider for {label}")
        # Gradio 6.31 shows the box before it listens to it.
        for _ in range(20):
            box.fill(value)
            box.press("Tab")
            visit.page.wait_for_timeout(500)
            if slider.input_value() == value:
                break
        expect(slider).to_have_value(value)
    visit.ask("One two three four five?")
    expect(visit.answers.last).to_contain_text("[video 3 frames 1.00–5.00 s]")
    expect(visit.answers.last).not_to_contain_text("five")


def test_light_and_dark_are_remembered(visit):
    visit.page.get_by_role("button", name="Light or dark").click()
    assert visit.page.evaluate("document.body.classList.contains('dark')")
    visit.page.reload()
    expect(visit.page.get_by_text("Drop a video here")).to_be_visible()
    visit.page.wait_for_function("document.body.classList.contains('dark')")


def test_a_phone_shows_it_without_sideways_scrolling(browser, server):
    with visiting(browser, server.url, viewport={"width": 390, "height": 844}) as visit:
        visit.open_example()
        visit.ask("What is red?")
        expect(visit.answers.last).to_contain_text("What is red?")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_asks_for_the_key(browser):
    with serving(api_key="secret") as server:
        assert httpx.get(server.url).status_code == 401
        known = {"username": "me", "password": "secret"}
        with visiting(browser, server.url, http_credentials=known) as visit:
            visit.open_file(EXAMPLE)
            visit.ask("What is red?")
            expect(visit.answers.last).to_contain_text(SEEN)


def test_an_upload_goes_when_its_visitor_opens_another(visit, server):
    visit.open_file(EXAMPLE)
    stored = {file.id for file in server.service.files.list()}
    visit.page.get_by_role("button", name="Another video").click()
    expect(visit.page.locator(".strip")).to_have_count(0)
    left = {file.id for file in server.service.files.list()}
    assert len(stored - left) == 1
