"""A small model hub on loopback: as much of Hugging Face's HTTP API as fetching a model asks for.

https://huggingface.co/docs/hub/api and the headers that huggingface_hub reads of a file.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving_hub(models: dict[str, Path], log: list[str]) -> Iterator[str]:
    """Serve folders as models; gives the address for ``HF_ENDPOINT``.

    Args:
        models: folders by ``owner/name``.
        log: gets the path of every request.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            log.append(path)
            for name, folder in models.items():
                if path.startswith(f"/api/models/{name}"):
                    facts = _tree(folder) if "/tree/" in path else _facts(name, folder)
                    return self._send(json.dumps(facts).encode(), "application/json", with_body)
                if path.startswith(f"/{name}/resolve/"):
                    file = folder / path.removeprefix(f"/{name}/resolve/").partition("/")[2]
                    if file.is_file():
                        return self._send(file.read_bytes(), "application/octet-stream", with_body)
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

        def _send(self, body: bytes, kind: str, with_body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """The test reads ``log``."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _facts(name: str, folder: Path) -> dict[str, Any]:
    files = [
        {"rfilename": path.name, "size": path.stat().st_size, "blobId": "0" * 40}
        for path in sorted(folder.iterdir())
    ]
    return {"id": name, "modelId": name, "sha": COMMIT, "siblings": files}


def _tree(folder: Path) -> list[dict[str, Any]]:
    return [
        {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40}
        for path in sorted(folder.iterdir())
    ]
