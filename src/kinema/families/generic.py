"""Any transformers image-text-to-text checkpoint that ships a chat template."""

from kinema.families.base import Family

GENERIC = Family(
    name="generic",
    title="any image-text-to-text checkpoint with a chat template",
    example="",
    takes_video=False,
    image_placeholder="",
)
