"""Video NeVA: patches of every frame, one after another, in a Megatron language model."""

from kinema.families.base import Family
from kinema.families.templates import TEMPLATES
from kinema.types import FrameSampling

NEVA = Family(
    name="neva",
    title="Video NeVA",
    example="neva:ARCHIVE.nemo",
    takes_features=True,
    ragged_batch_ok=True,
    default_sampling=FrameSampling(num_frames=8, formula="linspace"),
    content="text",
    template=TEMPLATES["nvgpt"].jinja,
    importer="kinema.models.importers.neva:import_neva",
    classes="kinema.models.videolm",
)
