"""Caption jobs: started by a request, described one after the other, looked at by their id."""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kinema.captioning.exports import write_video
from kinema.captioning.records import VideoRecord
from kinema.errors import Busy, KinemaError, Unfinished, UsageError
from kinema.jobs.inputs import VideoInput
from kinema.jobs.progress import Progress
from kinema.jobs.runner import Cancelled
from kinema.server.backend import Backend
from kinema.server.errors import NotFound, body_of, for_strangers
from kinema.server.files import StoredFile
from kinema.server.media import renamed
from kinema.tasks.caption.job import CaptionJob
from kinema.tasks.caption.settings import CaptionSettings

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
Format = Literal["json", "srt", "vtt", "chapters", "ffmetadata"]

_log = logging.getLogger(__name__)
_MOST_WAITING = 16
_MOST_REQUESTS = 4
"""Requests of a caption job that wait or run at once; the rest of a batch is for others."""
_MOST_KEPT = 256
"""Jobs that have ended and can still be looked at."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What one caption job is to do."""

    backend: Backend
    file: StoredFile
    say: CaptionSettings


@dataclass(eq=False)
class Job:
    """One caption job and how far it is."""

    id: str
    wanted: Wanted
    created_at: int
    """Seconds since 1970."""
    status: Status = "queued"
    record: VideoRecord | None = None
    problem: KinemaError | None = None
    task: CaptionJob | None = None
    num_answers: int = 0
    """Captions that were made so far."""
    is_cancelled: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether its status stays."""
        return self.status not in ("queued", "in_progress")

    def cancel(self) -> None:
        """Stop soon, or never begin."""
        self.is_cancelled = True
        if self.status == "queued":
            self.status = "cancelled"
        if self.task is not None:
            self.task.cancel()

    def to_dict(self) -> dict[str, Any]:
        """The job as callers see it."""
        return {
            "id": self.id,
            "object": "video.captions",
            "created_at": self.created_at,
            "model": self.wanted.backend.name,
            "file_id": self.wanted.file.id,
            "filename": self.wanted.file.name,
            "status": self.status,
            "num_answers": self.num_answers,
            "error": None if self.problem is None else body_of(self.problem)["error"],
            "result": None if self.record is None else self.record.to_dict(),
        }

    def exported(self, name: Format) -> tuple[str, bytes]:
        """The result as a file: its name and its bytes.

        Raises:
            UsageError: there is no result.
        """
        if self.record is None:
            raise UsageError(
                f"The job has no captions; its status is {self.status}.",
                hint="Ask again when it is completed.",
            )
        with tempfile.TemporaryDirectory(prefix="kinema-export-") as folder:
            stem = Path(self.wanted.file.name).stem or "captions"
            (path,) = write_video(self.record, [name], Path(folder), "captions")
            return path.name.replace("captions", stem, 1), path.read_bytes()


class CaptionJobs:
    """Runs jobs in a thread, one at a time, on the scheduler of their model.

    Args:
        folder: for what jobs keep while they run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, "kinema-captions")

    def start(self, wanted: Wanted) -> Job:
        """Let a job wait for its turn.

        Raises:
            Busy: too many wait already.
        """
        waiting = sum(not job.has_ended for job in self._jobs.values())
        if waiting >= _MOST_WAITING:
            raise Busy(f"{waiting} caption jobs are waiting already.", retry_after_seconds=30)
        job = Job(f"captions-{secrets.token_hex(12)}", wanted, int(time.time()))
        self._jobs[job.id] = job
        self._drop_oldest()
        self._thread.submit(self._run, job)
        return job

    def get(self, job_id: str) -> Job:
        """The job with this id.

        Raises:
            NotFound: there is none.
        """
        if job_id not in self._jobs:
            raise NotFound("There is no caption job with this id.", hint="Start one with POST.")
        return self._jobs[job_id]

    def list(self) -> list[Job]:
        """All jobs, oldest first."""
        return list(self._jobs.values())

    def close(self) -> None:
        """Stop every job."""
        for job in self._jobs.values():
            job.cancel()
        self._thread.shutdown()

    def _run(self, job: Job) -> None:
        if job.is_cancelled:
            job.status = "cancelled"
            return
        job.status = "in_progress"
        try:
            job.record = self._describe(job)
            job.status = "completed"
        except Cancelled:
            job.status = "cancelled"
        except KinemaError as problem:
            stopped_by = problem.__cause__ if isinstance(problem, Unfinished) else None
            job.problem = for_strangers(stopped_by or problem)
            job.status = "failed"
        except Exception:
            _log.exception("a caption job failed")
            job.problem = KinemaError("The server failed.")
            job.status = "failed"

    def _describe(self, job: Job) -> VideoRecord:
        wanted, file = job.wanted, job.wanted.file
        state = Path(tempfile.mkdtemp(prefix="captions-", dir=self._folder))
        try:
            job.task = task = CaptionJob(
                inputs=[VideoInput(str(file.path), file.id)],
                state=state,
                say=wanted.say,
                workers=1,
                scheduler=wanted.backend.scheduler,
                max_requests=_MOST_REQUESTS,
            )
            if job.is_cancelled:  # meanwhile
                task.cancel()
            problems: list[KinemaError] = []

            def tell(step: Progress) -> None:
                is_part = step.unit is not None and step.result is None and step.problem is None
                job.num_answers += is_part
                problems.extend([step.problem] if step.problem else [])

            task.run(tell)
            if problems:
                raise renamed(problems[-1], str(file.path), file.name)
            (described,) = task.results()
        finally:
            shutil.rmtree(state, ignore_errors=True)
        return replace(described.record, source=file.name)

    def _drop_oldest(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.has_ended]
        for job_id in ended[: max(0, len(ended) - _MOST_KEPT)]:
            del self._jobs[job_id]
