"""From words to a command, and from its end to an exit status."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Env

from kinema.cli import COMMANDS
from kinema.cli.environment import PREFIX, unknown_variables
from kinema.cli.output import STDIN, complain, leave_stdout, say
from kinema.cli.processes import end_with_leader, remember
from kinema.cli.sources import SettingsFile, sources_of
from kinema.engines import rank, world_size
from kinema.errors import KinemaError, UsageError, saying_flags
from kinema.files import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from kinema.plugins import load_plugins

INTERRUPTED = 130
UNREAD = 141
"""Whoever read the output left: what a shell says of programs that SIGPIPE ended."""
TERMINATED = 143
_OWN_CONFIG = ("answer",)
"""Commands whose ``--config`` is in another program's format."""
_MANY_PROCESSES = ("chat", "caption", "answer", "eval", "train")
"""Commands that torchrun may start: the first process leads, the others follow."""


def run(words: Sequence[str]) -> int:
    """Run one command and return its exit status: 0 to 4, 130, 141 or 143 (see ``errors``)."""
    with saying_flags(), _sigterm_as_ctrl_c() as terminated:
        try:
            return _run(list(words))
        except KinemaError as error:
            complain(error)
            return error.exit_code
        except BrokenPipeError:
            leave_stdout()
            return UNREAD
        except KeyboardInterrupt:
            say("\nkinema: terminated" if terminated.is_set() else "\nkinema: interrupted")
            return TERMINATED if terminated.is_set() else INTERRUPTED


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[threading.Event]:
    """SIGTERM ends a command as Ctrl-C does; yields what is set when it came.

    Whoever handles SIGINT gets it, asyncio's loops among them, so that jobs close their ledgers.
    """
    terminated = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        terminated.set()
        handler = signal.getsignal(signal.SIGINT)
        # A shell ignores SIGINT for what it starts in the background, and means Ctrl-C alone.
        if not callable(handler):
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    if threading.current_thread() is not threading.main_thread():
        yield terminated  # only the main thread gets signals
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(words: list[str]) -> int:
    end_with_leader()
    remember(words)
    # What torch says of torchao, which transformers imports wherever it is installed.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    load_plugins()
    longer = " ".join(words[:2])
    name, rest = (longer, words[2:]) if longer in COMMANDS else (words[0], words[1:])
    if world_size() > 1 and name not in _MANY_PROCESSES:
        raise UsageError(
            f"kinema {name} runs in one process, and torchrun started {world_size()}.",
            hint="Start it without torchrun. Commands that run in several: "
            f"{', '.join(_MANY_PROCESSES)}.",
        )
    rest, config = (rest, None) if name in _OWN_CONFIG else _take_config(rest)
    app = build(name, config=config)
    for sentence in unknown_variables(app, _every) if rank() == 0 else ():
        say(f"note: {sentence}")
    rest = list(_switched(app, rest))
    # A lone dash is an option to the parser, and "read it from stdin" to everybody else.
    rest = [STDIN if word == "-" else word for word in rest]
    hint = f"See `kinema {name} --help`."
    if (dashed := next(filter(_is_file_name, rest), None)) is not None:
        hint = f"A file of this name is written ./{dashed}"
    status = call(app, rest, hint=hint)
    return status if isinstance(status, int) else 0


def call(app: App, words: Sequence[str], *, hint: str) -> Any:
    """What a command returns.

    Raises:
        UsageError: the words are none of its flags; says so in the parser's words.
    """
    try:
        return app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as problem:
        raise UsageError(" ".join(str(problem).split()), hint=hint) from problem


def _switched(app: App, words: Sequence[str]) -> Iterator[str]:
    """``--bf16 True`` as ``--bf16=True``: scripts of others write a word behind a switch."""
    switches = {
        name
        for argument in app.assemble_argument_collection()
        if argument.hint in (bool, bool | None)
        for name in argument.names
    }
    left = iter(words)
    for word in left:
        if word.replace("_", "-") not in switches:
            yield word
            continue
        after = next(left, None)
        if after is not None and after.lower() in ("true", "false"):
            yield f"{word}={after.lower()}"
        else:
            yield word
            yield from () if after is None else _switched(app, [after, *left])


def _is_file_name(word: str) -> bool:
    """Whether a word that begins with a dash means a file, and was read as an option."""
    suffixes = (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES)
    is_option = word.startswith("-") and word != STDIN
    return is_option and (Path(word).suffix.lower() in suffixes or os.path.isfile(word))


def _every() -> Iterator[App]:
    """All commands whose packages are installed."""
    for name, row in COMMANDS.items():
        if not row.missing:
            yield build(name)


def build(name: str, *, config: Path | None = None) -> App:
    """The parser of one command: flags over environment over file over defaults."""
    command: Callable[..., Any] = COMMANDS.load(name)
    app = App(
        name=f"kinema {name}",
        help_format="plaintext",
        help_epilogue=_epilogue(command, is_own_config=name in _OWN_CONFIG),
        default_parameter=Parameter(negative=(), show_env_var=False, show_default=_shown),
        version_flags=(),
        suppress_keyboard_interrupt=False,  # ``run`` says how it ended
        config=[
            Env(PREFIX, command=False),
            *([SettingsFile(config, must_exist=True)] if config else []),
            *sources_of(command),
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
    elsewhere = "Flags can come from the environment too: KINEMA_MODEL=spotter."
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
