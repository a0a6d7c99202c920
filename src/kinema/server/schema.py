"""The body of a chat request, field by field, as OpenAI's clients and vLLM's write it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kinema.types import Formula, Single

Count = Annotated[int, Field(ge=1, le=1_000_000)]
_IGNORED = {
    "metadata", "parallel_tool_calls", "prediction", "prompt_cache_key", "reasoning_effort",
    "safety_identifier", "service_tier", "store", "user", "verbosity",
}  # fmt: skip
"""OpenAI's fields that change no answer of ours."""
_NEUTRAL: dict[str, Any] = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "modalities": ["text"],
    "tools": [],
    "tool_choice": "none",
    "use_beam_search": False,
}
"""OpenAI's fields that we do not have, and the value that asks for nothing."""


class Strict(BaseModel):
    """A body in which nothing is dropped in silence."""

    model_config = ConfigDict(extra="forbid")


class SamplingFields(Strict):
    """Which frames of a video to take; the fields of ``FrameSampling``."""

    num_frames: Count | None = None
    fps: float | None = None
    at: list[float | str] | None = Field(None, max_length=4096)
    keyframes: bool = False
    single: Single | None = None
    max_frames: Count | None = None
    min_frames: Count | None = None
    start: float | str | None = None
    end: float | str | None = None
    formula: Formula = "slices"


class Url(Strict):
    """An address; ``detail`` is OpenAI's and means nothing here."""

    url: str
    detail: str | None = None


class VideoUrl(SamplingFields):
    """An address, with the sampling inside."""

    url: str


class File(Strict):
    """An uploaded file, or one that comes along as a ``data:`` address."""

    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None


class TextContent(Strict):
    """Words."""

    type: Literal["text", "input_text"]
    text: str


class ImageContent(Strict):
    """One picture: OpenAI's form, Qwen's, Hugging Face's."""

    type: Literal["image_url", "image", "input_image"]
    image_url: Url | str | None = None
    image: str | None = None
    url: str | None = None
    path: str | None = None
    file_id: str | None = None
    detail: str | None = None


class VideoContent(SamplingFields):
    """One video: vLLM's form, Qwen's, Hugging Face's, llama.cpp's."""

    type: Literal["video_url", "video", "input_video"]
    video_url: VideoUrl | str | None = None
    video: str | None = None
    input_video: VideoUrl | str | None = None
    url: str | None = None
    path: str | None = None
    data: str | None = None
    file_id: str | None = None


class FileContent(SamplingFields):
    """OpenAI's file part; what is in the file says whether it is a picture or a video."""

    type: Literal["file"]
    file: File


Content = Annotated[
    TextContent | ImageContent | VideoContent | FileContent, Field(discriminator="type")
]


class ChatMessage(Strict):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Content] | None = None
    name: str | None = None
    refusal: str | None = None


class StreamOptions(Strict):
    """What a stream says beside the text."""

    include_usage: bool = False
    include_obfuscation: bool = False


class NamedSchema(Strict):
    """A JSON Schema as OpenAI wraps it; every answer follows it, whatever ``strict`` says."""

    name: str = Field("answer", max_length=64)
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    """What an answer looks like: any text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _check_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with type: json_schema")
        return self


class MediaDefaults(Strict):
    """vLLM's ``media_io_kwargs``."""

    video: SamplingFields | None = None


class ChatRequest(Strict):
    """``POST /v1/chat/completions``."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=4096)
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    min_tokens: int = Field(0, ge=0, le=1_000_000)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1, le=1_000_000)
    repetition_penalty: float = Field(1.0, gt=0, le=100)
    n: int = Field(1, ge=1, le=16)
    stop: str | list[str] | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    media_io_kwargs: MediaDefaults | None = None
    mm_processor_kwargs: SamplingFields | None = None
    fit: bool = False
    """Take frames away when they do not fit the context, instead of refusing."""

    @model_validator(mode="before")
    @classmethod
    def _without_neutral_fields(cls, values: Any) -> Any:
        """Refuse what we cannot do, and drop what changes nothing."""
        if not isinstance(values, dict):
            return values
        for name, nothing in _NEUTRAL.items():
            if values.get(name) not in (None, nothing):
                raise ValueError(f"{name} is not supported; leave it out or send {nothing!r}")
        dropped = {*_IGNORED, *_NEUTRAL}
        kept = {k: v for k, v in values.items() if k not in dropped}
        return {k: v for k, v in kept.items() if v is not None}

    @model_validator(mode="after")
    def _check_stop(self) -> ChatRequest:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stop) > 16 or any(not 0 < len(text) <= 1000 for text in stop):
            raise ValueError("stop holds up to 16 strings of 1 to 1000 characters")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs goes with logprobs: true")
        return self
