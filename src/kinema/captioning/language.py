"""Which language a caption is in, told by py3langid; loaded when a language was asked for."""

from __future__ import annotations

import py3langid


def language_of(text: str) -> str:
    """The ISO 639-1 code of a text's language."""
    code, _ = py3langid.classify(text)
    return str(code)
