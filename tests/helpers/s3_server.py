"""A bucket of files: the part of S3's protocol with which objects are read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Bucket:
    """Serves the files of a folder as objects of the bucket `b`, and counts the reads of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        """Names of the objects requested with HEAD, including missing ones."""
        self.reads: list[str] = []
        self.url = ""
        """Without the name of an object."""
        self.query = ""


@contextmanager
def s3_bucket(folder: Path) -> Iterator[Bucket]:
    bucket = Bucket(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            bucket.asked.append(unquote(urlsplit(self.path).path).removeprefix("/b/"))
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            name = unquote(urlsplit(self.path).path).removeprefix("/b/")
            path = folder / name
            data = path.read_bytes() if path.is_file() else b""
            first, last, status = 0, len(data) - 1, 200 if path.is_file() else 404
            if status == 200 and (given := self.headers.get("Range")):
                start, _, end = given.removeprefix("bytes=").partition("-")
                first, last, status = int(start), min(int(end or last), last), 206
            part = data[first : last + 1]
            self.send_response(status)
            self.send_header("Content-Length", str(len(part)))
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
            self.end_headers()
            if body:
                bucket.reads.append(name)
                self.wfile.write(part)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    host = f"127.0.0.1:{server.server_port}"
    bucket.url = "s3://key:secret@b"
    bucket.query = f"?endpoint_override={host}&scheme=http&region=us-east-1"
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
