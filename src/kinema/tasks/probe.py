"""What is in a file, and which of its frames a sampling would take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.types import Frames, FrameSampling
from kinema.video import contact_sheet, load_frames, probe
