"""A server on loopback that serves files well or badly."""

from __future__ import annotations

import http.server
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Server:
    """What is served and how; every request is noted."""

    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    etag: str | None = '"one"'
    ranges: bool = True  # whether Range is understood
    cuts: list[int] = field(default_factory=list)  # each answer ends after so many bytes of body, one after the other
    resets: int = 0  # so many of the cut answers end in a reset (RST) instead of an end of data (FIN)
    answers: list[int] = field(default_factory=list)  # statuses to give first
    length: int | None = None  # a false Content-Length
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range

    def gets(self, path: str) -> list[str | None]:
        """Return the Range of each request for a path."""
        return [asked for _, at, asked in self.requests if at == path]


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    """Serve {path: bytes}; a value that begins with `->` redirects."""
    server = Server(files)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def do_GET(self) -> None:
            path = re.sub(r"^http://[^/]+", "", self.path)
            server.requests.append((self.command, path, self.headers.get("Range")))
            body = server.files.get(path)
            if server.answers or body is None:
                self.send_error(server.answers.pop(0) if server.answers else 404)
            elif body.startswith(b"->"):
                self.send_response(302)
                self.send_header("Location", body[2:].decode())
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self._send(body)

        def _send(self, body: bytes) -> None:
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            same = self.headers.get("If-Range") in (None, server.etag)
            start = int(wanted[1]) if wanted and server.ranges and same else 0
            if start >= len(body) > 0:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if server.etag:
                self.send_header("ETag", server.etag)
            self.send_header("Accept-Ranges", "bytes" if server.ranges else "none")
            self.send_header("Content-Type", "application/zip")
            self.send_header("Content-Length", str(server.length or len(body) - start))
            self.end_headers()
            part = body[start:][: server.cuts.pop(0)] if server.cuts else body[start:]
            self.wfile.write(part)
            self.close_connection = True
            if server.resets and len(part) < len(body) - start:
                server.resets -= 1
                self._reset()

        def _reset(self) -> None:
            """Close the socket so that the kernel sends RST: lingering for no time throws away what is in flight."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
