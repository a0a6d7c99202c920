"""Cuts and fades by PySceneDetect's detectors, on frames that we decode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector, ThresholdDetector

from kinema.video.detector import Detector

_ANY_RATE = 25.0
"""The detectors count frames; times come from the timeline, so this rate means nothing."""


def find_openings(pictures: Iterator[tuple[int, Any]], threshold: float) -> dict[int, str]:
    """Frame index to what opens a shot there; see :class:`kinema.video.detector.Detector`."""
    cuts = ContentDetector(threshold=threshold, min_scene_len=0)
    fades = ThresholdDetector(min_scene_len=0)
    found: dict[int, str] = {}
    for frame_index, rgb in pictures:
        moment = FrameTimecode(frame_index, fps=_ANY_RATE)
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        found |= {cut.frame_num: "fade" for cut in fades.process_frame(moment, bgr)}
        found |= {cut.frame_num: "cut" for cut in cuts.process_frame(moment, bgr)}
    return found


DETECTOR = Detector(size=96, threshold=27.0, find_openings=find_openings)
