"""The body behind an http(s) address, within its rules and budget."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urljoin

from kinema.errors import FetchFailed, MediaNotFound, Truncated
from kinema.video.access import Budget, UrlRules
from kinema.video.byte_range import ByteRange, spool
from kinema.video.url_gate import Address, Resolve, numbers_of, parse, system_resolver

_PIECE_BYTES = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_MISSING = (404, 410)
_PASSING = (429, 500, 502, 503, 504)
_HEADERS = {
    "User-Agent": "kinema",
    "Accept": "video/*, image/*, */*;q=0.1",
    "Accept-Encoding": "identity",
    "Connection": "close",
}


class _TryLater(Exception):
    """The server says that it may answer another time."""


@dataclass(frozen=True)
class Fetcher:
    """Fetches under one set of rules."""

    rules: UrlRules = UrlRules()
    budget: Budget = Budget()
    resolve: Resolve = system_resolver
    tls: ssl.SSLContext | None = None
    """Whom to trust; what the operating system trusts when None."""

    def fetch(self, text: str) -> tuple[str, ByteRange]:
        """Download to a temporary file without a name.

        Returns:
            What to call the address in messages, and the bytes.

        Raises:
            UrlNotAllowed: the address, or one it redirects to, is forbidden.
            MediaNotFound: the server has no such thing.
            TooLarge: more than the budget, counted after decompression.
            FetchFailed: refused, nonsense, broken off, or too slow.
        """
        address = parse(text)
        give_up_at = time.monotonic() + self.rules.total_seconds
        for attempt in range(self.rules.max_retries + 1):
            try:
                return str(address), self._follow(address, give_up_at)
            except _TryLater as reason:
                said = str(reason)
                time.sleep(min(0.2 * 2**attempt, max(0.0, give_up_at - time.monotonic())))
        raise FetchFailed(f"{address}: {said}, also when asked again.", hint="Try again later.")

    def _follow(self, address: Address, give_up_at: float) -> ByteRange:
        for _ in range(self.rules.max_redirects + 1):
            with self._answer(address, give_up_at) as response:
                if response.status not in _REDIRECTS:
                    return spool(self._body(address, response))
                location = response.headers.get("Location", "")
            address = parse(urljoin(f"{address}", location))
        raise FetchFailed(
            f"{address.host} redirects more than {self.rules.max_redirects} times.",
            hint="Give the last address of the chain.",
        )

    @contextmanager
    def _answer(self, address: Address, give_up_at: float) -> Iterator[http.client.HTTPResponse]:
        """One request; the connection is shut at the deadline whatever the other side does."""
        connection = self._connect(address)
        left_seconds = max(0.01, give_up_at - time.monotonic())
        alarm = threading.Timer(left_seconds, _shut, [connection.sock])
        alarm.start()
        try:
            connection.request("GET", address.target, headers=_HEADERS)
            # The response outlives its connection, so it is closed by itself.
            with closing(connection.getresponse()) as response:
                self._check(address, response)
                yield response
            _check_time(address, give_up_at)
        except (http.client.HTTPException, OSError, ValueError, Truncated) as problem:
            _check_time(address, give_up_at)
            if isinstance(problem, Truncated):
                raise
            late = isinstance(problem, TimeoutError)
            what = "stopped answering" if late else "broke off or answered no HTTP"
            raise FetchFailed(f"{address} {what}.", hint="Try again later.") from None
        finally:
            alarm.cancel()
            connection.close()
            alarm.join()

    def _connect(self, address: Address) -> http.client.HTTPConnection:
        """A connection to a checked number; name and certificate are those of the host."""
        for number in numbers_of(address, self.rules, self.resolve):
            try:
                raw = socket.create_connection(
                    (number, address.port), timeout=self.rules.connect_seconds
                )
            except OSError:
                continue
            raw.settimeout(self.rules.read_seconds)
            connection = http.client.HTTPConnection(address.netloc)
            connection.sock = self._secured(raw, address)
            return connection
        raise FetchFailed(f"{address.host} does not answer.", hint="Is the server running?")

    def _secured(self, raw: socket.socket, address: Address) -> socket.socket:
        if address.scheme == "http":
            return raw
        try:
            tls = self.tls or ssl.create_default_context()
            return tls.wrap_socket(raw, server_hostname=address.host)
        except (ssl.SSLError, OSError):
            raw.close()
            raise FetchFailed(
                f"{address.host} has no certificate that can be trusted.", hint="Check the address."
            ) from None

    def _check(self, address: Address, response: http.client.HTTPResponse) -> None:
        if response.status in _PASSING:
            raise _TryLater(f"the server answered {response.status}")
        if response.status in _MISSING:
            raise MediaNotFound(f"There is nothing at {address}.", hint="Check the address.")
        if response.status not in (200, *_REDIRECTS):
            raise FetchFailed(
                f"{address} answered {response.status}.",
                hint="Open it in a browser; it may want a login.",
            )
        self.budget.check_fetched(str(address), response.length or 0)

    def _body(self, address: Address, response: http.client.HTTPResponse) -> Iterator[bytes]:
        num_bytes = 0
        for piece in _decompressed(address, response):
            num_bytes += len(piece)
            self.budget.check_fetched(str(address), num_bytes)
            yield piece


def _pieces(address: Address, response: http.client.HTTPResponse) -> Iterator[bytes]:
    declared = response.length
    num_bytes = 0
    while piece := response.read(_PIECE_BYTES):
        num_bytes += len(piece)
        yield piece
    if declared is not None and num_bytes < declared:
        raise Truncated(
            f"{address} ended after {num_bytes:,} of {declared:,} bytes.", hint="Try again."
        )


def _decompressed(address: Address, response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body in bounded pieces: a few bytes of gzip may stand for gigabytes."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        yield from _pieces(address, response)
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise FetchFailed(f"{address} is compressed in an unknown way.", hint="Download it first.")
    unpack = zlib.decompressobj(wbits=47)  # gzip or zlib, told apart by their headers
    try:
        for piece in _pieces(address, response):
            yield unpack.decompress(piece, _PIECE_BYTES)
            while unpack.unconsumed_tail:
                yield unpack.decompress(unpack.unconsumed_tail, _PIECE_BYTES)
    except zlib.error:
        raise FetchFailed(f"{address} is damaged.", hint="Try again.") from None


def _check_time(address: Address, give_up_at: float) -> None:
    if time.monotonic() >= give_up_at:
        raise FetchFailed(f"{address} took too long.", hint="Download it and give the file.")


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        # Not the method of an SSLSocket: that one waits for the other side to agree.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
