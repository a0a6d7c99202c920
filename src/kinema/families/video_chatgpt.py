"""Video-ChatGPT: 100 temporal and 256 spatial tokens, on LLaVA-Lightning."""

from kinema.families.base import Family
from kinema.families.templates import TEMPLATES
from kinema.types import FrameSampling

VIDEO_CHATGPT = Family(
    name="video-chatgpt",
    title="Video-ChatGPT",
    example="video-chatgpt:LLaVA-7B-Lightening-v1-1",
    takes_image=False,
    takes_features=True,
    ragged_batch_ok=True,
    default_sampling=FrameSampling(num_frames=100, formula="segments"),
    content="text",
    template=TEMPLATES["video-chatgpt_v1"].jinja,
    importer="kinema.models.importers.video_chatgpt:import_video_chatgpt",
    classes="kinema.models.videolm",
)
