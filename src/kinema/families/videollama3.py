"""VideoLLaMA3: frames that hardly change cost few tokens, each stands behind its time."""

from kinema.families import tokens
from kinema.families.base import Family
from kinema.families.turns import chatml
from kinema.types import FrameSampling

VIDEOLLAMA3 = Family(
    name="videollama3",
    title="VideoLLaMA3",
    example="lkhl/VideoLLaMA3-2B-Image-HF",
    model_types=("video_llama_3",),
    engines=("hf", "vllm"),
    ragged_batch_ok=True,
    default_sampling=FrameSampling(fps=1.0, min_frames=4, max_frames=180, formula="arange"),
    video_placeholder="<|video_pad|>",
    image_placeholder="<|image_pad|>",
    template=chatml(video="<|video_pad|>\n", image="<|image_pad|>\n"),
    visual_tokens=tokens.frames_share_budget,
    # vLLM cannot tell which clip a dropped token belonged to.
    vllm_arguments={"mm_processor_kwargs": {"use_token_compression": False}},
    # It hands the clock of a clip only to processors that could sample; ours never do.
    vllm_video_processor={"do_sample_frames": True},
)
