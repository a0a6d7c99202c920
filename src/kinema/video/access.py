"""What a source may reach: files, addresses, and how much of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, kw_only=True)
class UrlRules:
    """Which http(s) addresses may be fetched, and how patiently."""

    enabled: bool = True
    hosts: tuple[str, ...] | None = None
    """Only these hosts; None for every public one."""
    private_hosts: tuple[str, ...] = ()
    """Hosts that may resolve to an address that is not public."""
    max_redirects: int = 3
    max_retries: int = 2
    """After 429 and 5xx."""
    connect_seconds: float = 10.0
    read_seconds: float = 15.0
    """Between two pieces of the answer."""
    total_seconds: float = 300.0


@dataclass(frozen=True, kw_only=True)
class Access:
    """All rules for one source."""

    roots: tuple[Path, ...] | None = None
    """Local files must lie below one of these folders; None for no limit, () for no local file."""
    urls: UrlRules = UrlRules()
    budget: Budget = Budget()


LOCAL = Access()
"""A person's own command: every file they can read, every public address."""


def server_access(*, roots: tuple[Path, ...] = (), private_hosts: tuple[str, ...] = ()) -> Access:
    """Rules for sources named by strangers: no local file outside ``roots``, small budgets."""
    return Access(
        roots=roots,
        urls=UrlRules(private_hosts=private_hosts, total_seconds=30.0),
        budget=Budget(
            num_bytes=256 * MEBIBYTE,
            pixels=4096 * 4096,
            frames=768,
            packets=3_000_000,
            seconds=60.0,
        ),
    )
