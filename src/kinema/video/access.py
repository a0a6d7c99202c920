"""What a source may reach: files, addresses, and how much of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kinema.video.budget import MEBIBYTE, Budget


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
