"""A real Chromium without a window, and a page of ours in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip
_PATIENCE_MS = 20_000
_NAMES = ("chromium", "chromium-browser")
needs_chromium = pytest.mark.needs_program(*_NAMES)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser of this machine; a test that opens it is marked with :data:`needs_chromium`."""
    path = next(filter(None, map(shutil.which, _NAMES)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page that a visitor looks at, and what went on behind it."""

    page: Page
    url: str
    elsewhere: list[str] = field(default_factory=list)
    """Addresses on other hosts that the page asked for."""
    problems: list[str] = field(default_factory=list)
    """Errors that scripts did not catch."""

    def open_file(self, path: Path) -> None:
        """Choose a file of this machine."""
        self.page.set_input_files("#file", path)
        expect(self.page.locator(".strip button").first).to_be_visible()

    def open_example(self) -> None:
        """One click."""
        self.page.get_by_role("button", name="Try the example clip").click()
        expect(self.page.locator(".strip button").first).to_be_visible()

    def ask(self, question: str) -> None:
        """Type it and press Enter."""
        box = self.page.get_by_label("Question")
        box.fill(question)
        box.press("Enter")

    def wait_until_answered(self) -> None:
        """An answer redraws the talk as it grows, which would take an open edit box away."""
        expect(self.page.get_by_role("button", name="Ask")).to_be_visible()

    @property
    def answers(self) -> Any:
        """What the model said, oldest first."""
        return self.page.locator("#chat .bot.message")

    @property
    def questions(self) -> Any:
        """What was asked, oldest first."""
        return self.page.locator("#chat .user.message")

    @property
    def seconds(self) -> float:
        """Where the player is."""
        return float(self.page.evaluate("document.getElementById('video').currentTime"))


@contextmanager
def visiting(browser: Browser, url: str, **context: Any) -> Iterator[Visit]:
    """A fresh visitor of a server; nothing may have gone wrong or elsewhere when they leave."""
    opened = browser.new_context(
        viewport=context.pop("viewport", {"width": 1280, "height": 860}), **context
    )
    opened.set_default_timeout(_PATIENCE_MS)
    expect.set_options(timeout=_PATIENCE_MS)
    page = opened.new_page()
    visit = Visit(page, url)
    ours = (url, "data:", "blob:")
    page.on("request", lambda r: r.url.startswith(ours) or visit.elsewhere.append(r.url))
    page.on("pageerror", lambda error: visit.problems.append(str(error)))
    try:
        page.goto(url)
        expect(page.get_by_text("Drop a video here")).to_be_visible()
        page.wait_for_function("document.body.dataset.stage === 'drop'")
        yield visit
        assert visit.elsewhere == []
        assert visit.problems == []
    finally:
        opened.close()
