"""The built-in model: EfficientNet-Lite0 and SmolLM2-135M-Instruct, on any laptop."""

from kinema.families.base import Family
from kinema.types import FrameSampling

TINY = Family(
    name="tiny",
    title="kinema tiny (EfficientNet-Lite0 + SmolLM2-135M-Instruct)",
    example="tiny",
    model_types=("kinema_tiny",),
    writes_freely=False,
    ragged_batch_ok=True,
    default_sampling=FrameSampling(num_frames=16),
    content="text",
    classes="kinema.models.tiny",
    builder="kinema.models.tiny.build:build",
)
