"""One process and a Ray cluster of two nodes write the same bytes, also when a worker is killed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress

import psutil
import pytest
import ray

from kinema.cli.app import run
from support.clips import make_audio, make_clip

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings are Ray's own


def agent_ports():
    """Free ports, named in advance: a node gives up on agents that take long to choose theirs."""
    names = (
        "metrics_agent_port",
        "metrics_export_port",
        "dashboard_agent_listen_port",
        "runtime_env_agent_port",
    )
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in sockets]
    return dict(zip(names, ports, strict=True))


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **agent_ports()})
    nodes.add_node(num_cpus=2, **agent_ports())
    nodes.connect()
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def kill_a_worker(name, killed, stop):
    """Kill the first process that runs a worker of this name, once it has begun."""
    while not stop.is_set() and not killed:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if any(name in word for word in process.cmdline()):
                    time.sleep(0.3)
                    process.kill()
                    killed.append(process.pid)
                    return
        time.sleep(0.02)


def test_ray_and_one_process_write_the_same_records(tmp_path, cluster):
    videos = tmp_path / "videos"
    videos.mkdir()
    for i in range(12):
        make_clip(videos / f"{i:02d}.mp4", num_frames=30 + i, fps=5)
    make_audio(videos / "sound.mp4")
    (videos / "broken.mp4").write_bytes(b"\0" * 5000)
    words = ["caption", str(videos), "-m", "echo", "--export", "srt,json", "--batch-size", "2"]
    words += ["--chapter-seconds", "3", "--quiet"]
    assert run([*words, "-o", str(tmp_path / "one")]) == 3
    killed, stop = [], threading.Event()
    killer = threading.Thread(target=kill_a_worker, args=("_Actor", killed, stop))
    killer.start()
    try:
        status = run([*words, "-o", str(tmp_path / "ray"), "--runner", "ray"])
    finally:
        stop.set()
        killer.join()
    assert status == 3
    assert killed
    assert not any("usage" in thread.name for thread in threading.enumerate())
    files = [p for p in sorted((tmp_path / "one").iterdir()) if p.is_file()]
    assert len(files) == 3 + 2 * 12
    for path in files:
        assert (tmp_path / "ray" / path.name).read_bytes() == path.read_bytes(), path.name


def test_answers_and_features_are_the_same_on_a_cluster(cluster, tmp_path):
    from support.towers import make_clip as make_tower

    videos = tmp_path / "videos"
    videos.mkdir()
    for i in range(4):
        make_clip(videos / f"{i}.mp4", num_frames=10 + i)
    (videos / "bad.mp4").write_bytes(b"this is no video" * 50)
    names = [*(f"{i}.mp4" for i in range(4)), "bad.mp4"]
    records = [{"video": name, "text": f"<video> {i}?"} for i in range(2) for name in names]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, records)))
    answer = ["answer", str(tmp_path / "p.jsonl"), "--media-base-path", str(videos), "-m", "echo"]
    tower = make_tower(tmp_path / "tower")
    features = ["features", str(videos), "--tower", str(tower), "--num-frames", "4", "--augment"]
    for runner in ("local", "ray"):
        more = ["--runner", runner, "--workers", "2", "-o"]
        assert run([*answer, "-q", *more, str(tmp_path / f"{runner}.jsonl")]) == 3
        assert run([*features, "flip", *more, str(tmp_path / runner)]) == 3
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    written = [path.name for path in (tmp_path / "local").glob("[!.]*")]
    assert len(written) == 2 * 4 + 1
    for name in written:
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


def test_actors_use_the_environment_of_the_job_also_below_uv_run():
    asked = "import kinema.jobs.ray, ray; print(ray._private.ray_constants.{})"
    name = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", asked.format(name)],
        env={key: value for key, value in os.environ.items() if key != name},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "False"
