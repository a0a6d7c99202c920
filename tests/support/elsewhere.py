"""Checkpoints made in a process of their own: a vLLM that ran in this one has changed classes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_MAKE = """
import sys
from pathlib import Path
import torch
from support.tiny_families import make_checkpoint
torch.manual_seed(0)
make_checkpoint(sys.argv[2], Path(sys.argv[1]), width=int(sys.argv[3]))
"""


def make_elsewhere(name: str, folder: Path, *, width: int = 128) -> Path:
    """A random checkpoint of a family, always with the same weights."""
    command = [sys.executable, "-W", "ignore", "-c", _MAKE, str(folder), name, str(width)]
    subprocess.run(command, check=True)
    return folder
