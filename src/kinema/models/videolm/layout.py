"""How many tokens a medium costs and how they stand in the prompt: plain arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from kinema.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """Token counts of a medium of T frames, before and after the projector."""

    grid: tuple[int, int]
    """Rows and columns that the tower gives for a frame."""
    has_class_token: bool = False
    pooling: str = "frames"
    pool_grid: int = 2
    num_temporal_tokens: int = 100
    downsample: int = 1
    """Side of the square of patches that the projector folds into one token."""
    num_queries: int = 0
    """Tokens of every medium where the projector resamples, else 0."""
    wrap: str = "outside"
    timestamps: bool = False

    @property
    def tower_tokens_per_frame(self) -> int:
        """What the tower hands over for a frame, before pooling."""
        return self.grid[0] * self.grid[1] + self.has_class_token

    @property
    def frame_grid(self) -> tuple[int, int]:
        """Rows and columns of a frame after pooling."""
        if self.pooling == "grid":
            return (self.pool_grid, self.pool_grid)
        return (1, 1) if self.pooling == "cls" else self.grid

    @property
    def tokens_per_frame(self) -> int:
        """Prompt tokens of one frame, for the poolings that keep frames apart."""
        rows, columns = (-(-side // self.downsample) for side in self.frame_grid)
        return rows * columns + self.has_class_token

    def feature_tokens(self, num_frames: int) -> int:
        """Rows of the pooled features of a medium, before the projector."""
        if self.pooling == "spatio_temporal":
            if num_frames > self.num_temporal_tokens:
                raise UsageError(
                    f"{num_frames} frames were given and the model has "
                    f"{self.num_temporal_tokens} temporal tokens.",
                    hint=f"Use --num-frames {self.num_temporal_tokens} or less.",
                )
            return self.num_temporal_tokens + self.tower_tokens_per_frame
        rows, columns = self.frame_grid
        return num_frames * (rows * columns + self.has_class_token)

    def prompt_tokens(self, num_frames: int) -> int:
        """Visual tokens of a medium in the language model, start and end left out."""
        if self.num_queries:
            return self.num_queries
        if self.pooling == "spatio_temporal":
            return self.feature_tokens(num_frames)
        return num_frames * self.tokens_per_frame

    def frame_of_feature(self, num_frames: int) -> list[int]:
        """Frame index of each feature row, -1 where a row belongs to no single frame."""
        total = self.feature_tokens(num_frames)
        if self.pooling == "spatio_temporal":
            return [*range(num_frames), *([-1] * (total - num_frames))]
        return [row * num_frames // total for row in range(total)]

    def num_frames_of(self, feature_tokens: int) -> int:
        """Frames behind this many feature rows.

        Raises:
            UsageError: no whole number of frames gives that many rows.
        """
        if self.pooling == "spatio_temporal":
            num_frames = self.num_temporal_tokens
        else:
            num_frames = feature_tokens // self.feature_tokens(1)
        if self.feature_tokens(num_frames) != feature_tokens or not num_frames:
            raise UsageError(
                f"{feature_tokens} feature rows fit no number of frames; "
                f"{self.pooling} gives {self.feature_tokens(1)} for one.",
                hint="Extract the features again with this model.",
            )
        return num_frames


def write_run(layout: TokenLayout, count: int, *, patch: str, start: str, end: str) -> str:
    """The characters that stand for ``count`` visual tokens in a prompt.

    ``outside`` is start, count patches, end; ``inside`` lets features take the places of start
    and end too, so the run is count tokens long; ``none`` is patches alone.
    """
    if layout.wrap == "none":
        return patch * count
    if layout.wrap == "outside":
        return start + patch * count + end
    if count < 2:
        raise UsageError(
            f"media_wrap=inside needs two visual tokens a run and there is {count}.",
            hint="Use media_wrap=outside.",
        )
    return start + patch * (count - 2) + end
