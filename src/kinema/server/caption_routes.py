"""``/v1/videos/captions``: start a caption job, look at it, stop it, take its files."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Response
from pydantic import Field

from kinema.captioning.segments import SegmentOptions
from kinema.captioning.summary import SummaryBy
from kinema.errors import UsageError
from kinema.messages import SamplingParams
from kinema.server.backend import Backend
from kinema.server.captions import Format, Wanted
from kinema.server.files import StoredFile
from kinema.server.schema import Count, Strict
from kinema.server.service import Service
from kinema.tasks.caption.settings import CaptionOptions, CaptionSettings
from kinema.types import FrameSampling

_TYPES = {
    "json": "application/json",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "chapters": "text/vtt",
    "ffmetadata": "text/plain",
}
_OPTIONS = {field.name for field in fields(CaptionOptions)}
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Words = Annotated[str, Field(min_length=1, max_length=10_000)]


class CaptionRequest(Strict):
    """``POST /v1/videos/captions``: one video, named by an upload's id or an address."""

    model: str
    file_id: str | None = None
    video_url: str | None = Field(None, max_length=10_000)
    fps: Annotated[float, Field(gt=0, le=60)] | None = None
    """Frames that are looked at in a second; 1 when not given."""
    batch_size: Annotated[int, Field(ge=1, le=256)] = 4
    """Frames of one caption."""
    window: Seconds | None = None
    """Seconds of one caption, instead of a number of frames."""
    prompt: Words | None = None
    summary_prompt: Words | None = None
    title_prompt: Words | None = None
    style: str = "detailed"
    language: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    summary_by: SummaryBy = "auto"
    chapter_seconds: Seconds = 120.0
    max_tokens: Count | None = None
    temperature: float = Field(0.0, ge=0, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)

    def wanted(self, file: StoredFile, backend: Backend) -> Wanted:
        """The job that it asks for.

        Raises:
            UsageError: values that contradict each other.
        """
        say = CaptionSettings(
            model=backend.model,
            params=SamplingParams(
                temperature=self.temperature,
                seed=self.seed,
                max_new_tokens=self.max_tokens or SamplingParams().max_new_tokens,
            ),
            options=CaptionOptions(**self.model_dump(include=_OPTIONS)),
            segments=SegmentOptions(batch_size=self.batch_size)
            if self.window is None
            else SegmentOptions(segment_by="seconds", window=self.window),
            sampling=FrameSampling(fps=self.fps),
        )
        return Wanted(backend=backend, file=file, say=say)


def add_captions(app: FastAPI, service: Service) -> None:
    """The routes of caption jobs."""
    jobs = service.captions

    @app.post("/v1/videos/captions")
    async def start_captions(body: CaptionRequest) -> dict[str, Any]:
        """Describe a whole video: captions, chapters, a summary and a title."""
        backend = service.find(body.model)
        return jobs.start(body.wanted(await _file(body, service), backend)).to_dict()

    @app.get("/v1/videos/captions")
    async def list_captions() -> dict[str, Any]:
        """All jobs, oldest first, without their results."""
        return {"object": "list", "data": [job.to_dict() | {"result": None} for job in jobs.list()]}

    @app.get("/v1/videos/captions/{job_id}")
    async def retrieve_captions(job_id: str) -> dict[str, Any]:
        """One job: queued, in_progress, completed with its result, failed or cancelled."""
        return jobs.get(job_id).to_dict()

    @app.get("/v1/videos/captions/{job_id}/content")
    def captions_content(job_id: str, format: Format = "json") -> Response:
        """The result as a file."""
        name, body = jobs.get(job_id).exported(format)
        # A stranger chose the name.
        attached = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        headers = {"Content-Disposition": attached}
        return Response(body, media_type=_TYPES[format], headers=headers)

    @app.post("/v1/videos/captions/{job_id}/cancel")
    async def cancel_captions(job_id: str) -> dict[str, Any]:
        """Stop a job; one that has ended stays as it is."""
        job = jobs.get(job_id)
        job.cancel()
        return job.to_dict()


async def _file(body: CaptionRequest, service: Service) -> StoredFile:
    if (body.file_id is None) == (body.video_url is None):
        raise UsageError("A job needs one video.", hint="Give file_id or video_url.")
    if body.file_id is not None:
        return service.files.get(body.file_id)
    return await service.fetch(str(body.video_url))
