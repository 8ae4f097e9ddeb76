"""A local HTTP server of files, which can be told to fail in the ways that servers do."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TAG, DATE = '"v1"', "Mon, 04 May 2020 10:00:00 GMT"


@dataclass
class Served:
    """A file, and how it is answered.

    Attributes:
        content: its bytes.
        ranges: whether Range and If-Range are understood.
        length: the Content-Length announced; the true one where None, none at all where negative.
        breaks: after how many bytes each answer in turn is broken off; then none is.
        codes: status codes of the first answers.
        kind: the Content-Type.
        headers: further headers, which name the version of the file.
        asked: the Range header of every request, None where it had none.
        before: called before a body is sent.
    """

    content: bytes
    ranges: bool = True
    length: int | None = None
    breaks: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    kind: str = "application/zip"
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": TAG})
    asked: list[str | None] = field(default_factory=list)
    before: Callable[[], object] = lambda: None


class FileServer:
    """The files served, by path without the first slash, and the address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, Served] = {}

    def put(self, name: str, content: bytes, **how: object) -> Served:
        """Serve a file."""
        self.files[name] = Served(content, **how)  # type: ignore[arg-type]
        return self.files[name]

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


@contextlib.contextmanager
def file_server() -> Iterator[FileServer]:
    """Run a server for as long as the block lasts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as http:
        http.daemon_threads = True
        http.files = FileServer(f"http://127.0.0.1:{http.server_port}")  # type: ignore[attr-defined]
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield http.files  # type: ignore[attr-defined]
        finally:
            http.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        served = self.server.files.files.get(self.path.lstrip("/"))
        if served is None:
            return self.send_error(404)
        served.asked.append(self.headers["Range"])
        if served.codes:
            return self.send_error(served.codes.pop(0))
        served.before()
        start, code, size = 0, 200, len(served.content)
        span = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        condition = self.headers["If-Range"]
        unchanged = condition is None or condition in served.headers.values()
        if served.ranges and span and unchanged:
            start, code = int(span[1]), 206
        if start >= size > 0 and code == 206:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(code)
        if code == 206:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        body = served.content[start:]
        length = len(body) if served.length is None else served.length
        if length >= 0:
            self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", served.kind)
        for name, value in served.headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[: served.breaks.pop(0)] if served.breaks else body)
