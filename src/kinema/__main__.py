"""The ``kinema`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status.

    The overview and the version are printed here, before anything else is imported.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] not in ("-h", "--help") and words != ["--version"]:
        from kinema.cli.app import run  # noqa: PLC0415  the overview below stays instant

        return run(words)
    try:
        return _version() if words == ["--version"] else _overview()
    except BrokenPipeError:
        from kinema.cli.app import UNREAD  # noqa: PLC0415
        from kinema.cli.output import leave_stdout  # noqa: PLC0415

        leave_stdout()
        return UNREAD


def _overview() -> int:
    from kinema.cli import COMMANDS  # noqa: PLC0415

    rows = "\n".join(f"  {name:<18}{row.summary}" for name, row in COMMANDS.items())
    print(
        "Usage: kinema COMMAND ...\n\n"
        "Language models that watch video.\n\n"
        f"Commands:\n{rows}\n\n"
        "`kinema COMMAND --help` shows a command's flags.\n"
        'Start with: kinema chat clip.mp4 "What happens in this video?"',
        flush=True,
    )
    return 0


def _version() -> int:
    from kinema.version import __version__  # noqa: PLC0415

    print(f"kinema {__version__}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
