"""``python -m kinema.lwm_vision_generation``: images and videos from words, the original's flags.

    python -m kinema.lwm_vision_generation --prompt="a cat" --output_file=cat.png \\
        --load_checkpoint=params::LWM/params --vqgan_checkpoint=LWM/vqgan --cfg_scale_image=5
"""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from kinema.lwm_vision_chat import run
from kinema.tasks.lwm import DrawFlags, draw, is_first_host, join_hosts


def generation(*, flags: Annotated[DrawFlags, Parameter(name="*")] = DrawFlags()) -> None:
    """Draw an image, or a video of several frames, with a Large World Model."""
    join_hosts(flags.jax_distributed)
    frames = draw(flags)
    if is_first_host():
        noun = "frame" if len(frames) == 1 else "frames"
        print(f"Wrote {len(frames)} {noun} to {flags.output_file}")


if __name__ == "__main__":
    sys.exit(run(generation, sys.argv[1:]))
