"""Web servers on this machine that misbehave as they are told."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Answer = Callable[[socket.socket, str], None]
"""Gets the connection and the path that was asked for, and writes whatever it likes."""


@dataclass
class Server:
    """One listening socket, a thread a connection."""

    port: int
    asked: list[str] = field(default_factory=list)
    """Request lines and Host headers, in order."""
    names: list[str | None] = field(default_factory=list)
    """Server names that TLS clients asked for."""


@contextmanager
def serve(answer: Answer, *, certificate: Path | None = None) -> Iterator[Server]:
    """Answer on 127.0.0.1 until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(port=listener.getsockname()[1])
    tls = _context(certificate, server) if certificate else None
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=_talk, args=(connection, tls, server, answer)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join()


def _context(certificate: Path, server: Server) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _, name, __: server.names.append(name)
    return context


def _secured(raw: socket.socket, tls: ssl.SSLContext | None) -> socket.socket:
    return tls.wrap_socket(raw, server_side=True) if tls else raw


def _talk(raw: socket.socket, tls: ssl.SSLContext | None, server: Server, answer: Answer) -> None:
    with raw, ExitStack() as stack:
        try:
            connection = stack.enter_context(_secured(raw, tls))
            words = b""
            while b"\r\n\r\n" not in words and (piece := connection.recv(4096)):
                words += piece
            lines = words.decode().split("\r\n")
            server.asked += [lines[0], *(line for line in lines if line.startswith("Host:"))]
            answer(connection, lines[0].split(" ")[1])
        except (OSError, IndexError):
            pass  # the client left; that is what some tests want


def reply(
    body: bytes = b"", *, status: int = 200, length: int | None = -1, **headers: str
) -> Answer:
    """A plain answer; ``length`` lies about the body, None leaves it out."""

    def answer(connection: socket.socket, path: str) -> None:
        lines = [f"HTTP/1.1 {status} Said", *(f"{_dashed(k)}: {v}" for k, v in headers.items())]
        if length is not None:
            lines.append(f"Content-Length: {len(body) if length < 0 else length}")
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    return answer


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def drip(piece: bytes, *, every_seconds: float) -> Answer:
    """The same few bytes again and again, for ever."""

    def answer(connection: socket.socket, path: str) -> None:
        while True:
            connection.sendall(piece)
            time.sleep(every_seconds)

    return answer
