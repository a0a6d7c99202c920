"""What becomes of one question: it is asked, and the reply is made a prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kinema.config import fingerprint
from kinema.errors import MediaNotFound, MissingCapability
from kinema.evaluation.choice import LETTERS
from kinema.evaluation.records import Prediction
from kinema.jobs.ledger import Outcome, Unit
from kinema.jobs.site import Site
from kinema.messages import Ask, Completion, SamplingParams
from kinema.tasks.evaluate.questions import Question

_ALTERNATIVES = 20
"""First tokens whose probability is asked for when options are ranked."""


@dataclass(frozen=True)
class Predictor:
    """How a model is asked a benchmark's questions, and how its replies become predictions."""

    model: str
    """Its name, for the records."""
    identity: Mapping[str, Any]
    """All that decides the answers of the run: see :mod:`kinema.tasks.deciding`."""
    params: SamplingParams
    rank: bool = False
    """Score the letters of the options instead of generating."""

    async def predict(self, question: Question, site: Site) -> Outcome:
        """Ask one question.

        Raises:
            MediaNotFound: the benchmark's folder has no file of the video.
            MissingCapability: options are ranked, and the engine reports no log-probabilities.
            KinemaError: see :mod:`kinema.errors` for whose fault it is.
        """
        item, params = question.item, self.params
        if question.missing:
            raise MediaNotFound(f"There is no video {item.video_id}.")
        ranks = self.rank and item.task == "choice" and item.lettered
        if ranks:
            params = replace(params, max_new_tokens=1, min_new_tokens=0, logprobs=_ALTERNATIVES)
        key = f"{item.id}-{fingerprint(self.identity)}"
        asked = Ask(key=key, conversation=question.conversation, params=params)
        reply = await site.answer(asked)
        said = reply.completion
        result = {
            "reply": said.text,
            "reasoning": said.reasoning,
            "frames": [
                {name: value for name, value in shown.about.items() if name != "warnings"}
                for shown in reply.shown
            ],
            "warnings": [
                *(warning for shown in reply.shown for warning in shown.warnings),
                *([reply.note] if reply.note else []),
            ],
            "option_scores": self._scores(said, len(item.options)) if ranks else None,
            "finish_reason": said.finish_reason,
            "usage": dict(vars(said.usage)),
        }
        return Outcome({"prediction": result, "seconds": round(said.seconds, 4)})

    def prediction(self, question: Question, unit: Unit) -> Prediction:
        """The record of a question whose unit is done or failed."""
        said = {"reply": None, "error": unit.error or "", "error_code": unit.code or unit.state}
        if unit.state == "done":
            said = unit.result["prediction"]
        about = {
            "prompt": question.prompt,
            "system": question.system,
            "sampling": {} if question.source is None else question.sampling.to_dict(),
            "model": self.model,
            "revision": self.identity["revision"],
            "params": self.params.to_dict(),
        }
        return Prediction.from_dict(about | said)

    def _scores(self, completion: Completion, count: int) -> tuple[float, ...] | None:
        """Log-probability that the answer begins with each option's letter: ``B``, ``b``, ``(B``.

        A token that only begins with a letter (" de", " no") is no option.
        Letters outside the alternatives that the engine reports get the lowest of them; None when
        no letter is inside.
        """
        if not completion.logprobs:
            raise MissingCapability(
                f"The engine {self.identity['engine']!r} reports no log-probabilities.",
                hint="Leave --rank-options out, or take an engine that does (hf).",
            )
        first = completion.logprobs[0]
        tokens = dict([*first.alternatives, (first.token, first.logprob)])
        chances = [0.0] * count
        for token, logprob in tokens.items():
            letter = token.strip(" (▁Ġ\n").upper()
            index = LETTERS.find(letter)
            if len(letter) == 1 and 0 <= index < count:
                chances[index] += math.exp(logprob)
        if not any(chances):
            return None
        lowest = min(tokens.values())
        return tuple(round(math.log(c), 6) if c else lowest for c in chances)
