"""Which http(s) addresses may be reached, and at which number.

One parser reads the address, and what it read is what is connected to. A host is resolved once,
every number it resolves to is checked, and only checked numbers leave this module.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from kinema.errors import FetchFailed, UrlNotAllowed
from kinema.video.access import UrlRules

Resolve = Callable[[str, int], list[str]]
"""Host and port to addresses in numbers."""

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]+")
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]")
"""Characters that two parsers read differently."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_URL_SAFE = "/%:@!$&'()*+,;=~?"

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Address:
    """A parsed http(s) address; it prints without its query, which may hold secrets."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def netloc(self) -> str:
        """Host and, where it is not the usual one, port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """What is asked of the host: path and query."""
        return self.path + (f"?{self.query}" if self.query else "")


def is_url(text: str) -> bool:
    """True for anything that begins like ``scheme://``, except ``file://``."""
    scheme, separator, _ = text[:64].partition("://")
    return bool(separator) and scheme.isalnum() and scheme.lower() != "file"


def parse(text: str) -> Address:
    """Read an http(s) address.

    Raises:
        UrlNotAllowed: another scheme, a user name, or characters that parsers disagree on.
    """
    scheme = text.partition("://")[0].lower()
    if scheme not in _PORTS:
        raise UrlNotAllowed(
            f"{scheme[:20]}:// addresses are not fetched.", hint="Give http:// or https://."
        )
    text = _without_spaces(text)
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna").decode().rstrip(".")
        port = parts.port or _PORTS[scheme]
    except (ValueError, UnicodeError):
        raise _unreadable() from None
    if _AMBIGUOUS.search(text) or not _HOST.fullmatch(host):
        raise _unreadable()
    if "@" in parts.netloc:
        raise UrlNotAllowed(
            f"The address of {host} holds a user name.", hint="Leave user and password out."
        )
    path, query = quote(parts.path, safe=_URL_SAFE), quote(parts.query, safe=_URL_SAFE)
    return Address(scheme, host, port, path or "/", query)


def _without_spaces(text: str) -> str:
    """The address with spaces behind its host written as browsers send them."""
    scheme, _, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}{slash}{path.rstrip(' ').replace(' ', '%20')}"


def _unreadable() -> UrlNotAllowed:
    return UrlNotAllowed(
        "The address cannot be read.",
        hint="Write https://host/path, without control characters and backslashes.",
    )


def system_resolver(host: str, port: int) -> list[str]:
    """Ask the operating system.

    Raises:
        FetchFailed: the host is unknown.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise FetchFailed(f"There is no host {host}.", hint="Check the address.") from None
    return [str(entry[4][0]) for entry in found]


def numbers_of(address: Address, rules: UrlRules, resolve: Resolve) -> list[str]:
    """The numbers that may be connected to for this address, checked.

    Raises:
        UrlNotAllowed: the host is not on the list, or one of its numbers is not public.
        FetchFailed: the host is unknown.
    """
    if not rules.enabled:
        raise UrlNotAllowed("URLs are switched off here.", hint="Upload the video instead.")
    if rules.hosts is not None and address.host not in rules.hosts:
        raise UrlNotAllowed(
            f"{address.host} is not among the allowed hosts.", hint="Ask for it to be allowed."
        )
    numbers = resolve(address.host, address.port)
    if address.host not in rules.private_hosts and not all(map(is_public, numbers)):
        # The same words for every kind, so that nobody maps the inner network with them.
        raise UrlNotAllowed(
            f"{address.host} is not a public host.",
            hint="Name it under private hosts if it is meant.",
        )
    return numbers


def is_public(number: str) -> bool:
    """False for loopback, private, link-local, reserved and multicast addresses in any coat."""
    ip = ipaddress.ip_address(number.partition("%")[0])
    ip = _embedded(ip) or ip
    site_local = isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or site_local)


def _embedded(ip: IPAddress) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address carries: mapped, 6to4, Teredo or NAT64."""
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
