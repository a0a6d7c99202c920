"""From words to a command, and from its end to an exit status."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Env, Yaml

from kinema.cli import COMMANDS
from kinema.cli.output import STDIN, complain, say
from kinema.errors import KinemaError, UsageError

INTERRUPTED = 130
_OWN_CONFIG = ("answer",)
"""Commands whose ``--config`` is in another program's format."""


def run(words: Sequence[str]) -> int:
    """Run one command and return its exit status: 0, 1, 2, 3 or 130 (see ``errors``)."""
    try:
        return _run(list(words))
    except KinemaError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        say("\nkinema: interrupted")
        return INTERRUPTED


def _run(words: list[str]) -> int:
    name, rest = _take_name(words)
    rest, config = (rest, None) if name in _OWN_CONFIG else _take_config(rest)
    app = build(name, config=config)
    # A lone dash is an option to the parser, and "read it from stdin" to everybody else.
    rest = [STDIN if word == "-" else word for word in rest]
    try:
        status = app(rest, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as problem:
        sentence = " ".join(str(problem).split())
        raise UsageError(sentence, hint=f"See `kinema {name} --help`.") from problem
    return status if isinstance(status, int) else 0


def _take_name(words: list[str]) -> tuple[str, list[str]]:
    """The command, of one word or two, and the words behind it."""
    longer = " ".join(words[:2])
    return (longer, words[2:]) if longer in COMMANDS else (words[0], words[1:])


def build(name: str, *, config: Path | None = None) -> App:
    """The parser of one command: flags over environment over file over defaults."""
    command: Callable[..., Any] = COMMANDS.load(name)
    app = App(
        name=f"kinema {name}",
        help_format="plaintext",
        help_epilogue=_epilogue(command, is_own_config=name in _OWN_CONFIG),
        default_parameter=Parameter(negative=(), show_env_var=False, show_default=_shown),
        version_flags=(),
        config=[
            Env("KINEMA_", command=False),
            *([Yaml(config, must_exist=True)] if config else []),
        ],
    )
    app["--help"].group = "Parameters"
    app.default(command)
    return app


def _shown(default: Any) -> str | None:
    """The default as help prints it; "off", "none" and "nothing" go without saying."""
    return None if default in (None, False, ()) else str(default)


def _epilogue(command: Callable[..., Any], *, is_own_config: bool) -> str:
    """The examples of the docstring, and where else a setting may stand."""
    lines = (inspect.getdoc(command) or "").partition("Examples:\n")[2].splitlines()
    examples = "\n".join(takewhile(str.strip, lines))
    elsewhere = "Flags can come from the environment too: KINEMA_MODEL=tiny."
    if not is_own_config:
        elsewhere += "\nOr from a file of flag names: --config settings.yaml."
    return f"Examples:\n{examples}\n\n{elsewhere}" if examples else elsewhere


def _take_config(words: list[str]) -> tuple[list[str], Path | None]:
    """Take ``--config FILE`` out of the words."""
    if "--config" not in words:
        return words, None
    at = words.index("--config")
    if at + 1 == len(words) or not Path(words[at + 1]).is_file():
        raise UsageError("--config wants a YAML file that exists.", hint="Its keys are flag names.")
    return words[:at] + words[at + 2 :], Path(words[at + 1])
