"""Captioner as a stage between two loops."""

import json

import numpy as np

from kinema.tasks.caption.stage import Captioner


def stream(count, *, step=1.0):
    return [(i * step, np.full((8, 8, 3), i, dtype=np.uint8)) for i in range(count)]


def test_pass_through_hands_every_frame_on_unchanged_and_describes_all(tmp_path):
    path = tmp_path / "result.json"
    stage = Captioner("echo", batch_size=4, pass_through=True, result_path=path)
    frames = stream(10, step=0.5)
    received = []
    for seconds, pixels in stage(frames):
        received.append((seconds, int(pixels[0, 0, 0])))
        pixels[:] = 255  # what the next stage does to its frame changes no caption
    stage.close()
    assert received == [(i * 0.5, i) for i in range(10)]
    assert [b["frames"] for b in stage.result["batches"]] == [4, 4, 2]
    assert [c.start_seconds for c in stage.record.captions] == [0.0, 2.0, 4.0]
    assert stage.record.captions[2].frame_seconds == (4.0, 4.5)
    assert json.loads(path.read_text()) == stage.result


def test_without_pass_through_nothing_goes_on_and_the_result_is_the_same():
    through = Captioner("echo", pass_through=True)
    alone = Captioner("echo")
    assert len(list(through(stream(5)))) == 5
    assert list(alone(stream(5))) == []
    said = [[c.text for c in s.record.captions] for s in (through, alone)]
    assert said[0] == said[1]
    through.close()
    alone.close()


def test_bare_pictures_get_their_times_from_the_rate():
    stage = Captioner("echo", fps=2.0, pass_through=True)
    list(stage(pixels for _, pixels in stream(4)))
    stage.close()
    assert stage.record.captions[0].frame_seconds == (0.0, 0.5, 1.0, 1.5)


def test_no_frame_gives_no_caption():
    stage = Captioner("echo", pass_through=True)
    assert list(stage([])) == []
    stage.close()
    assert stage.record.status == "failed"
    assert stage.record.captions == ()
    assert stage.result is None


def test_a_loop_that_is_left_early_leaves_no_thread():
    import threading

    stage = Captioner("echo", batch_size=1, pass_through=True)
    for seconds, _ in stage(stream(50)):
        if seconds > 3:
            break
    stage.close()
    assert not [t for t in threading.enumerate() if t.name == "kinema-engine"]
