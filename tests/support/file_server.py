"""A web server of a few files that can do what real ones do: break off, forget ranges, change a file, send a page."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass
class Served:
    """One answer: the file, the range asked for, the status, and the bytes of the file that it sends."""

    name: str
    asked: str | None
    status: int
    sent: int = 0


@dataclass
class FileServer:
    """Serves `files` at `url` while it is open.

    Attributes:
        ranges: whether it knows `Range`.
        if_range: whether it minds `If-Range`.
        etag: gives a content its ETag; None sends none.
        content_type: of every answer.
        length: the length that it names instead of the true one.
        cuts: for the next answers, after how many bytes the connection is cut; None sends all.
        stall: where set, an answer that is cut keeps its connection open until the server is closed.
        served: every answer so far.
    """

    files: dict[str, bytes]
    ranges: bool = True
    if_range: bool = True
    etag: Callable[[bytes], str] | None = lambda content: f'"{hash(content):x}"'
    content_type: str = "application/octet-stream"
    length: int | None = None
    cuts: list[int | None] = field(default_factory=list)
    stall: bool = False
    served: list[Served] = field(default_factory=list)

    def __enter__(self) -> FileServer:
        server = self
        self.closed = threading.Event()
        self.cut = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.closed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def bytes_of(self, name: str) -> int:
        return sum(answer.sent for answer in self.served if answer.name == name)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        name, asked = request.path.lstrip("/"), request.headers.get("Range")
        content = self.files.get(name)
        if content is None:
            self.served.append(Served(name, asked, 404))
            request.send_error(404)
            return
        tag = self.etag(content) if self.etag else None
        start = 0
        if asked and self.ranges and (not self.if_range or request.headers.get("If-Range") in (None, tag)):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
        if start and start >= len(content):
            self.served.append(Served(name, asked, 416))
            request.send_error(416)
            return
        answer = Served(name, asked, 206 if start else 200)
        self.served.append(answer)
        request.send_response(answer.status)
        request.send_header("Content-Type", self.content_type)
        request.send_header("Content-Length", str(len(content) - start if self.length is None else self.length))
        if tag:
            request.send_header("ETag", tag)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else None
        body = content[start:] if cut is None else content[start : start + cut]
        answer.sent = len(body)  # before the client has it, and a test counts
        request.wfile.write(body)
        request.wfile.flush()
        if cut is not None:
            self.cut.set()
            if self.stall:
                self.closed.wait(30)
