"""Errors speak of settings as the place does where they are read."""

from __future__ import annotations

import pickle

import pytest

import kinema
from kinema.cli.app import run
from kinema.errors import KinemaError, UnknownName, UsageError, in_fields, saying_flags
from kinema.server.errors import body_of
from kinema.types import FrameSampling


def refused() -> UsageError:
    with pytest.raises(UsageError) as caught:
        FrameSampling(num_frames=2, fps=1)
    return caught.value


def test_python_names_keywords_and_the_command_line_flags(capsys):
    assert str(refused()) == "num_frames and fps exclude each other."
    assert run(["probe", "nothing.mp4", "--num-frames", "2", "--fps", "1"]) == 2
    assert "--num-frames and --fps exclude each other." in capsys.readouterr().err
    with saying_flags():
        assert str(refused()) == "--num-frames and --fps exclude each other."
    assert str(refused()) == "num_frames and fps exclude each other."


def test_http_names_the_fields_of_a_body():
    with saying_flags():  # a server is started from the command line
        problem = UsageError("Too long.", hint="Lower --max-new-tokens, or leave --schema out.")
    (error,) = body_of(problem).values()
    assert error["message"] == "Too long. Lower max_tokens, or leave response_format out."


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Use --num-frames 8 or less.", "Use num_frames 8 or less."),
        ("Leave --schema out.", "Leave json_schema out."),
        (
            "--port is 7; it must be 8. See --help.",
            "port is 7; it must be 8. Choose another value.",
        ),
        ("Install with: pip install x --no-deps", "Install with: pip install x --no-deps"),
        ("`kinema eval list --json` says which.", "`kinema eval list --json` says which."),
        ("Start with: torchrun --nproc-per-node 4", "Start with: torchrun --nproc-per-node 4"),
        ("a -- b --- c", "a -- b --- c"),
    ],
)
def test_commands_to_type_stay_as_they_are(written, said):
    assert in_fields(written) == said


def test_an_error_of_another_process_speaks_as_this_one_does():
    problem = KinemaError("--fps is 0.", hint="Try --fps 1.")
    with saying_flags():
        again = pickle.loads(pickle.dumps(problem))
        assert (str(again), again.hint) == ("--fps is 0.", "Try --fps 1.")
    again = pickle.loads(pickle.dumps(again))
    assert (str(again), again.hint) == ("fps is 0.", "Try fps 1.")


@pytest.mark.parametrize(
    ("call", "listed"),
    [
        (lambda: kinema.chat("clip.mp4", "?", model="echo", bogus=1), "fit, formula, fps"),
        (lambda: kinema.load("echo", bogus=1), "quantization"),
    ],
)
def test_a_keyword_that_does_not_exist_is_named_with_those_that_do(call, listed):
    with pytest.raises(UnknownName, match="There is no keyword 'bogus'") as caught:
        call()
    assert listed in caught.value.hint
    assert "FrameSampling" not in caught.value.hint
