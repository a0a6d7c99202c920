"""``python -m kinema.lwm_vision_chat``: the original's command, with its flags and output.

    python -m kinema.lwm_vision_chat --prompt="What is the video about?" --input_file=clip.mp4 \\
        --load_checkpoint=params::LWM/params --vqgan_checkpoint=LWM/vqgan --mesh_dim='!1,1,-1,1'
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from cyclopts import App, Parameter

from kinema.cli.app import call
from kinema.cli.output import complain
from kinema.errors import KinemaError, saying_flags
from kinema.tasks.lwm import ChatFlags, ask, is_first_host, join_hosts


def chat(*, flags: Annotated[ChatFlags, Parameter(name="*")] = ChatFlags()) -> None:
    """Ask a Large World Model one question about an image or video."""
    join_hosts(flags.jax_distributed)
    answer = ask(flags)
    if is_first_host():
        print(f"Question: {flags.prompt}\nAnswer: {answer.text}")


def run(command: Callable[..., Any], words: Sequence[str]) -> int:
    """Run one command by its original flags and return the exit status: 0, 1 or 2."""
    app = App(
        name=f"python -m kinema.lwm_vision_{command.__name__}",
        default_parameter=Parameter(name_transform=lambda name: name, negative=()),
        help_format="plaintext",
        version_flags=(),
    )
    app.default(command)
    try:
        with saying_flags():
            call(app, list(map(_in_our_form, words)), hint="--help lists every flag.")
    except KinemaError as error:
        complain(error)
        return error.exit_code
    return 0


def _in_our_form(word: str) -> str:
    """The original takes one dash as well as two, and ``no`` before the name of a switch."""
    word = re.sub(r"^-(?=[A-Za-z])", "--", word)
    return re.sub(r"^--no((?:llama|jax_distributed)\.\w+)$", r"--\1=False", word)


if __name__ == "__main__":
    sys.exit(run(chat, sys.argv[1:]))
