"""The layout: what is where, and which handler each control calls."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import gradio as gr

from kinema.messages import SamplingParams
from kinema.server.page.handlers import Handlers
from kinema.server.page.talk import Talk
from kinema.server.service import Service

_WORDS = SamplingParams()
_SUGGESTIONS = ("What happens in this video?", "What comes first?", "And last?")
_PRIVATE: dict[str, Any] = {"api_visibility": "private"}
_QUIET: dict[str, Any] = _PRIVATE | {"show_progress": "hidden"}
_KEYS = "Keys: / to ask, I and O to mark a part, Esc for the whole video."


def asset(name: str) -> str:
    """A text file that lies beside this one."""
    return files("kinema.server.page").joinpath(name).read_text(encoding="utf-8")


def theme() -> gr.themes.Base:
    """Colours and fonts; nothing is fetched from elsewhere."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        font=[gr.themes.Font(name) for name in ("system-ui", "sans-serif")],
        font_mono=[gr.themes.Font(name) for name in ("ui-monospace", "monospace")],
    )


def make_blocks(service: Service) -> gr.Blocks:
    """The page over one service."""
    handlers = Handlers(service)
    blocks: gr.Blocks
    with gr.Blocks(title="kinema", analytics_enabled=False, fill_width=True) as blocks:
        _Layout(service, handlers)
    blocks.queue(default_concurrency_limit=None)
    return blocks


class _Layout:
    """The components, made in the order in which they stand on the page."""

    def __init__(self, service: Service, handlers: Handlers) -> None:
        self._handlers = handlers
        self.talk = gr.State(Talk())
        self.video = gr.State("", time_to_live=3600, delete_callback=handlers.release)
        self.signal = gr.Textbox(visible="hidden", elem_id="file-id", container=False)
        self.playing = gr.JSON(visible="hidden")
        gr.HTML(_HEADER, elem_id="header")
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=6, min_width=320):
                self._watching()
            with gr.Column(scale=5, min_width=320):
                self._talking()
                self._choosing(service)
        self._wire_watching()
        self._wire_talking()
        self._wire_describing()

    def _watching(self) -> None:
        gr.HTML(asset("stage.html"), elem_id="stage")
        with gr.Row(elem_classes="tight"):
            self.link = _box(
                "link",
                "… or paste a link and press Enter",
                "Link to a video",
                scale=4,
                max_length=4000,
            )
            self.start = _time_box("start", "from 0:00")
            self.end = _time_box("end", "to the end")
        self.trouble = gr.HTML(elem_id="trouble")
        self.strip = gr.HTML(elem_id="strip")
        with gr.Row(elem_classes="tight"):
            self.describe = gr.Button(
                "Captions and chapters", elem_id="describe", size="sm", scale=0, min_width=190
            )
            self.cancel = gr.Button(
                "Cancel", elem_id="cancel", size="sm", scale=0, min_width=90, visible=False
            )
            self.files = gr.HTML(elem_id="files")
        self.outline = gr.HTML(elem_id="outline")

    def _talking(self) -> None:
        self.chat = gr.Chatbot(
            show_label=False,
            elem_id="chat",
            height="56vh",
            min_height=320,
            editable="user",
            buttons=["copy"],
            feedback_options=None,
            allow_tags=False,
            placeholder="### Ask about the video\nOpen one on the left, or try the example clip.",
            examples=[{"text": text} for text in _SUGGESTIONS],
        )
        self.question = _box(
            "question",
            "Ask about the video …",
            "Question",
            submit_btn="Ask",
            stop_btn=False,
            autofocus=True,
            max_length=20_000,
        )
        self.note = gr.HTML(elem_id="note")
        with gr.Row(elem_classes="tight"):
            self.transcript = gr.HTML(elem_id="transcript")
            self.again = gr.Button(
                "New conversation", elem_id="again", size="sm", scale=0, min_width=160
            )

    def _choosing(self, service: Service) -> None:
        with gr.Accordion("Model and sampling", open=False, elem_id="settings"):
            names = list(service.backends)
            model = gr.Dropdown(names, value=names[0], label="Model", interactive=True)
            with gr.Row():
                frames = gr.Slider(
                    0, 64, 0, step=1, label="Frames", info="0 leaves it to the model"
                )
                tokens = gr.Slider(1, 2048, _WORDS.max_new_tokens, step=1, label="Longest answer")
            with gr.Row():
                heat = gr.Slider(0, 2, 0, step=0.05, label="Temperature", info="0 is greedy")
                top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top p")
            seed = gr.Number(0, label="Seed", precision=0, info="0 is another each time")
            gr.HTML(f'<p class="note">{_KEYS}</p>')
        self.picks = [model, heat, top_p, tokens, seed, frames]

    def _wire_watching(self) -> None:
        opened = [self.video, self.talk, self.chat, self.strip, self.outline, self.files]
        opened += [self.trouble, self.transcript, self.playing]
        for trigger, handler, source in (
            (self.signal.change, self._handlers.open_file, self.signal),
            (self.link.submit, self._handlers.open_link, self.link),
        ):
            opening = trigger(handler, [source, self.video], opened, **_QUIET)
            opening.then(None, self.playing, js="(p) => { window.kinema.play(p); }")

    def _wire_talking(self) -> None:
        handlers = self._handlers
        given = [self.talk, self.video, self.start, self.end, *self.picks]
        shown = [self.talk, self.chat, self.strip, self.question, self.note, self.transcript]
        asking: list[Any] = [
            self.question.submit(handlers.ask, [self.question, *given], shown, **_QUIET),
            self.chat.example_select(handlers.suggest, given, shown, **_QUIET),
            self.chat.retry(handlers.retry, given, shown, **_QUIET),
            self.chat.edit(handlers.edit, given, shown, **_QUIET),
        ]
        self.question.stop(handlers.stop, self.talk, shown, cancels=asking, **_PRIVATE)
        for begun_anew in (self.again.click, self.chat.clear):
            begun_anew(handlers.forget, None, shown, cancels=asking, **_PRIVATE)

    def _wire_describing(self) -> None:
        handlers = self._handlers
        shown = [self.outline, self.files, self.describe, self.cancel]
        describing = self.describe.click(
            handlers.describe, [self.video, self.picks[0]], shown, **_QUIET
        )
        self.cancel.click(handlers.stop_describing, None, shown, cancels=[describing], **_PRIVATE)


def _box(name: str, placeholder: str, label: str, **more: Any) -> gr.Textbox:
    """A line to type in; readers of the screen hear its label."""
    return gr.Textbox(
        placeholder=placeholder,
        label=label,
        show_label=False,
        container=False,
        elem_id=name,
        **more,
    )


def _time_box(name: str, placeholder: str) -> gr.Textbox:
    label = f"Ask about the part {placeholder}"
    return _box(name, placeholder, label, scale=1, min_width=90, max_length=20)


_HEADER = """
<header>
  <h1>kinema <small>ask about a video</small></h1>
  <button type="button" id="theme" aria-label="Light or dark" title="Light or dark">◐</button>
</header>
"""
