"""Environment variables that look like ours and are not."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable

from cyclopts import App, ArgumentCollection

PREFIX = "KINEMA_"
_NOT_FLAGS = ("KINEMA_LED", "KINEMA_HOME", "KINEMA_WORDNET", "KINEMA_JUDGE_KEY", "KINEMA_API_KEY")
"""Variables that are read where they are needed."""


def unknown_variables(app: App, others: Callable[[], Iterable[App]]) -> list[str]:
    """A sentence for each variable that begins as ours do and that no command reads.

    Args:
        app: the command that runs.
        others: makes all commands; called where this one does not know a variable.
    """
    named = sorted(key for key in os.environ if key.startswith(PREFIX) and key not in _NOT_FLAGS)
    if not named:
        return []
    own = app.assemble_argument_collection()
    unknown = [key for key in named if not _reads(own, key)]
    if not unknown:
        return []
    every = [other.assemble_argument_collection() for other in others()]
    read = [name.removeprefix(PREFIX) for name in _NOT_FLAGS]
    names = [[*read, *_names(own)], [name for one in every for name in _names(one)]]
    return [
        f"{key} is no variable that kinema reads{_nearest(key, names)}"
        for key in unknown
        if not any(_reads(arguments, key) for arguments in every)
    ]


def _reads(arguments: ArgumentCollection, key: str) -> bool:
    try:
        arguments.match(key.removeprefix(PREFIX), transform=_variable, delimiter="_")
    except ValueError:
        return False
    return True


def _variable(name: str) -> str:
    """``--num-frames`` as it is called in the environment."""
    return name.upper().replace("-", "_").replace(".", "_").lstrip("_")


def _names(arguments: ArgumentCollection) -> list[str]:
    return [_variable(a.name) for a in arguments if a.name.startswith("--")]


def _nearest(key: str, names: Iterable[list[str]]) -> str:
    """The nearest name: of this command's, else of another's."""
    word = key.removeprefix(PREFIX)
    near = [found for some in names for found in difflib.get_close_matches(word, some, n=1)]
    return f"; did you mean {PREFIX}{near[0]}?" if near else "."
