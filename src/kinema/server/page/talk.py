"""What a visitor of the page has said so far, and the next request that follows from it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from kinema.errors import UsageError
from kinema.server.schema import ChatRequest
from kinema.server.service import Service
from kinema.types import Frames


@dataclass(frozen=True)
class Look:
    """Which video a question is about, and which part of it."""

    file_id: str
    start: str = ""
    """Seconds or MM:SS; empty for the beginning."""
    end: str = ""

    def part(self, num_frames: int | None) -> dict[str, Any]:
        """The part of a message, as an API client writes it."""
        given = {"start": self.start, "end": self.end, "num_frames": num_frames}
        kept = {name: value for name, value in given.items() if value}
        return {"type": "video", "file_id": self.file_id, **kept}


@dataclass(frozen=True)
class Turn:
    """A question, and the answer as far as it has come."""

    question: str
    look: Look | None
    num_frames: int | None = None
    answer: str = ""
    seen: str = ""
    """Which frames the model saw, in a line."""


@dataclass(frozen=True)
class Talk:
    """Turns in order."""

    turns: tuple[Turn, ...] = ()

    def before(self, index: int) -> Talk:
        """The talk as it was when turn ``index`` began."""
        return Talk(self.turns[:index])

    def with_last(self, turn: Turn) -> Talk:
        """The same talk, its last turn replaced."""
        return Talk((*self.turns[:-1], turn))

    def body(self, picks: Mapping[str, Any]) -> ChatRequest:
        """The request that asks the last turn's question after all before it.

        ``picks`` are fields of a request: what the visitor chose beside the words.

        The model is shown what the last question is about, in the turn that first looked at it;
        so a follow-up begins with what the engine has already read. What was said about another
        part stays as words.

        Raises:
            UsageError: a choice is outside what a request may say.
        """
        messages: list[dict[str, Any]] = []
        last = self.turns[-1]
        waiting = None if last.look is None else last.look.part(last.num_frames)
        for turn in self.turns:
            content: list[dict[str, Any]] = [{"type": "text", "text": turn.question}]
            if waiting and (turn.look, turn.num_frames) == (last.look, last.num_frames):
                content.insert(0, waiting)
                waiting = None
            messages.append({"role": "user", "content": content})
            if turn.answer:
                messages.append({"role": "assistant", "content": turn.answer})
        try:
            return ChatRequest.model_validate({"messages": messages, "fit": True, **picks})
        except ValidationError as problem:
            first = problem.errors()[0]
            raise UsageError(f"{first['loc'][-1]}: {first['msg']}.", hint="Change it.") from None

    def transcript(self) -> str:
        """The whole talk as Markdown."""
        lines = [f"**{turn.question}**\n\n{turn.answer}\n\n*{turn.seen}*\n" for turn in self.turns]
        return "\n".join(lines)


async def answer(
    service: Service, talk: Talk, picks: Mapping[str, Any]
) -> AsyncGenerator[tuple[Talk, list[Frames]], None]:
    """The talk with its last turn answered piece by piece, and the frames that it shows.

    It is admitted like any request. Closing the iterator stops the model.

    Raises:
        KinemaError: what the API would answer with an error.
    """
    with service.admission.enter():
        question, backend = await service.read_question(talk.body(picks))
        frames = question.frames
        turn = replace(talk.turns[-1], answer="", seen=frames[-1].seen if frames else "")
        yield talk.with_last(turn), frames
        async with aclosing(service.answer(question, backend, streamed=True)) as pieces:
            async for piece in pieces:
                if piece.answered is not None:
                    turn = replace(turn, answer=piece.answered.completion.text)
                elif piece.text:
                    turn = replace(turn, answer=turn.answer + piece.text)
                else:
                    continue
                yield talk.with_last(turn), frames
