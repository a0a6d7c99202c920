"""Fixtures that all tests share."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinema.types import Frames
from support.capabilities import Shown, check, write

# Workers that run tests side by side (pytest -n) share the cores; torch reads this when it starts.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# So does Ray: its workers are to use this environment, also below `uv run`, and to report nothing.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# JAX reads this when it starts. Tests compile much and compute little.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
# A shell's background jobs ignore Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_SHOWN = pytest.StashKey[Shown]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-capabilities",
        action="store_true",
        help="put what the tests showed into docs/capabilities.json, instead of comparing",
    )
    parser.addoption(
        "--all-programs",
        action="store_true",
        help="fail, and do not skip, a test whose program (needs_program) is not installed",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out a test whose program is missing, before any of its fixtures is made."""
    for mark in item.iter_markers("needs_program"):
        if not any(map(shutil.which, mark.args)):
            reason = f"needs {' or '.join(mark.args)}, which is not installed on this machine"
            if item.config.getoption("--all-programs"):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SHOWN] = Shown()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What one of several workers (pytest -n) has shown is shown."""
    node.config.stash[_SHOWN].add(getattr(node, "workeroutput", {}).get("shown", {}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The table of the docs says what the tests showed, or the run fails."""
    shown = session.config.stash[_SHOWN]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["shown"] = shown.verdicts
    elif session.config.getoption("--write-capabilities"):
        write(shown)
    elif stale := check(shown):
        print(f"\ndocs/capabilities.json is out of date; run with --write-capabilities: {stale}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Shown:
    """Call it with family, engine and capability behind the assertion that shows it."""
    return request.config.stash[_SHOWN]


@pytest.fixture(autouse=True, scope="session")
def _no_network(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        # A model that whoever runs the tests has chosen is none of theirs.
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        yield


@pytest.fixture
def frames() -> Frames:
    """Five noisy frames, one a second, of a ten-second source."""
    noise = np.random.default_rng(0)
    return Frames(
        pixels=noise.integers(0, 256, (5, 48, 64, 3), dtype=np.uint8),
        seconds=np.arange(5, dtype=np.float64),
        indices=np.arange(5, dtype=np.int64) * 10,
        source="noise",
        total_frames=100,
        duration_seconds=10.0,
        source_fps=10.0,
    )


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.checkpoints import make_llava

    return make_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def video_llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.checkpoints import make_video_llava

    return make_video_llava(tmp_path_factory.mktemp("video_llava"))


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory):
    """Makes the tiny checkpoint of a family once and returns its folder."""
    from support.tiny_families import make_checkpoint

    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = make_checkpoint(name, tmp_path_factory.mktemp(name))
        return made[name]

    return folder


@pytest.fixture(scope="session")
def family_engine(family_folder):
    """Opens the hf engine on a family's tiny checkpoint once: (model, engine)."""
    from kinema.engines import EngineSettings
    from kinema.tasks.models import find_model

    opened = {}

    def engine(name: str):
        if name not in opened:
            model = find_model(str(family_folder(name)), engine="hf")
            opened[name] = (
                model,
                model.open(EngineSettings(device="cpu", dtype="float32", keep_conversations=0)),
            )
        return opened[name]

    return engine
