"""The most that one read may take."""

from __future__ import annotations

from dataclasses import dataclass

from kinema.errors import TooLarge

MEBIBYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of one read; the defaults suit a person's own files."""

    num_bytes: int | None = None
    """Of a file, an upload or a ``data:`` address."""
    fetched_bytes: int = 256 * MEBIBYTE
    """Of the body behind a URL, counted after decompression."""
    pixels: int = 8192 * 8192
    """Of one picture, before it is scaled."""
    frames: int = 16_384
    """That are decoded and returned."""
    packets: int = 10_000_000
    """That are looked at while indexing: 46 hours at 60 frames a second."""
    seconds: float | None = None
    """From opening to the last frame. In one's own process this is looked at between packets;
    only :class:`~kinema.video.worker.Workers` also stops a decoder that never returns."""

    def check_bytes(self, name: str, count: int) -> None:
        """Raise ``TooLarge`` when a file or upload is longer than allowed."""
        if self.num_bytes is not None and count > self.num_bytes:
            raise TooLarge(
                f"{name} holds {count:,} bytes, {self.num_bytes:,} are allowed.",
                hint="Send a shorter or smaller video, or a URL.",
            )

    def check_fetched(self, name: str, count: int) -> None:
        """Raise ``TooLarge`` when a body is longer than allowed."""
        if count > self.fetched_bytes:
            raise TooLarge(
                f"{name} holds more than {self.fetched_bytes:,} bytes.",
                hint="Download it and give the file, or allow more.",
            )

    def check_pixels(self, name: str, height: int, width: int) -> None:
        """Raise ``TooLarge`` when one picture has more pixels than allowed."""
        if height * width > self.pixels:
            raise TooLarge(
                f"{name} has pictures of {width}×{height}, {self.pixels:,} pixels are allowed.",
                hint="Scale it down.",
            )

    def check_frames(self, name: str, count: int) -> None:
        """Raise ``TooLarge`` when more frames are asked for than allowed."""
        if count > self.frames:
            raise TooLarge(
                f"{count:,} frames of {name} were asked for, {self.frames:,} are allowed.",
                hint="Use --num-frames, or --max-frames with a rate, or a shorter range.",
            )

    def check_packets(self, name: str, count: int) -> None:
        """Raise ``TooLarge`` when a file has more packets than are looked at."""
        if count > self.packets:
            raise TooLarge(
                f"{name} has more than {self.packets:,} packets.", hint="Cut it into shorter files."
            )
