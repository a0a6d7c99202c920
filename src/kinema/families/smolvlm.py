"""SmolVLM and SmolVLM2: small, every frame behind its time in the prompt."""

from kinema.families import tokens
from kinema.families.base import Family
from kinema.families.turns import turns
from kinema.types import FrameSampling

SMOLVLM = Family(
    name="smolvlm",
    title="SmolVLM2",
    example="HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
    model_types=("smolvlm",),
    engines=("hf", "vllm"),
    ragged_batch_ok=True,
    # A video's tensor replaces the images' in one processor call.
    image_and_video_in_one_call=False,
    # The processor's own defaults: one frame a second, at most 64.
    default_sampling=FrameSampling(fps=1.0, max_frames=64),
    template=turns(
        start="<|im_start|>",
        system=("System: ", "<end_of_utterance>\n"),
        user=("User: ", "<end_of_utterance>\n"),
        assistant=("Assistant: ", "<end_of_utterance>\n"),
        ask="Assistant:",
        video="<video>",
        image="<image>",
    ),
    visual_tokens=tokens.fixed_per_frame,
    on_engine={"vllm": {"takes_video": False}},
)
