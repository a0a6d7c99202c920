"""What one server does not take of a chat request, learned from its refusals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import httpx

from kinema.engines.openai.problems import parameter_of, said_by

_UNSUPPORTED = re.compile(
    r"unsupported|not support|unrecognized|unknown|unexpected|not permitted|not allowed|extra"
    r"|only the default",
    re.IGNORECASE,
)
_SAMPLING = ("temperature", "top_p")
"""What models that reason choose themselves (OpenAI's o-series and GPT-5)."""


@dataclass
class Dialect:
    """How requests to one server are written; it grows when the server refuses a field.

    Several threads may use it: what is learned twice is the same.
    """

    renames_max_tokens: bool = False
    """The longest answer is called ``max_completion_tokens``."""
    left_out: frozenset[str] = frozenset()

    def written(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body as this server takes it."""
        written = {name: value for name, value in body.items() if name not in self.left_out}
        if self.renames_max_tokens:
            written["max_completion_tokens"] = written.pop("max_tokens")
        return written

    @property
    def note(self) -> str:
        """What the user should know about answers of this server; empty where all is as asked."""
        dropped = [name for name in _SAMPLING if name in self.left_out]
        if not dropped:
            return ""
        return f"The server does not take {' and '.join(dropped)}, and samples in its own way."

    def learn(self, response: httpx.Response, sent: dict[str, Any]) -> bool:
        """Whether the server refused a field that can be written otherwise, or left out.

        Args:
            response: a refusal (400, 422).
            sent: the body that it refused.
        """
        said, param = said_by(response), parameter_of(response)
        if "max_tokens" in sent and (param == "max_tokens" or "max_completion_tokens" in said):
            self.renames_max_tokens = True
            return True
        optional = ("stream_options", *_SAMPLING)
        refused = [n for n in optional if n in sent and (param == n or _names(said, n))]
        if not refused or not _UNSUPPORTED.search(said):
            return False
        self.left_out |= set(refused)
        return True


def _names(said: str, field: str) -> bool:
    return re.search(rf"(?<!\w){field}(?!\w)", said) is not None
