"""Joins the parts of ``tiny`` to a VideoLM that nobody trained yet.

    python recipes/tiny/base.py FOLDER

EfficientNet-Lite0 and SmolLM2-135M-Instruct, both from Python packages; between them a projector of
random weights. A video becomes four frames of 3×3 rows of features, and those a few tokens.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from kinema.families.templates import TEMPLATES
from kinema.models.importers.fresh import join
from kinema.models.importers.towers import EFFICIENTNET_LITE0
from kinema.models.tiny.build import write_language_model
from topics import NUM_TOKENS

GRID, NUM_FRAMES = 3, 4
CHATML = TEMPLATES["yi_34b"]
"""SmolLM2 was tuned with the same marks."""


def make_base(folder: Path) -> Path:
    """Write the model: ``kinema features --tower`` and ``kinema train --model`` take the folder."""
    with tempfile.TemporaryDirectory() as scratch:
        joined = join(
            write_language_model(Path(scratch)),
            EFFICIENTNET_LITE0,
            template=CHATML.name,
            fit="stretch",
            pooling="grid",
            pool_grid=GRID,
            projector="resampler",
            num_queries=NUM_TOKENS,
            media_wrap="none",
            kinema_sampling={"num_frames": NUM_FRAMES},
        )
        return joined.save(folder, chat_template=CHATML.jinja, stop=CHATML.stop)


if __name__ == "__main__":
    make_base(Path(sys.argv[1]))
