"""A server on the loopback that does to downloads what happens to them."""

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves `files` by path.

    Attributes:
        files: Path -> bytes.
        cuts: For each answer to come, after how many bytes it is cut; None not at all.
        redirects: Path -> where to.
        status: Answer with this status to everything, as often as `failures` says.
        etags: Whether files have a mark.
        ranges: Whether parts are served.
        asked: What was asked for: path and range.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.cuts, self.redirects, self.asked = {}, [], {}, []
        self.status, self.failures = 503, 0
        self.etags = self.ranges = True

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"

    @property
    def ranges_asked(self):
        return [asked for _, asked in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append((self.path, asked))
        if server.failures:
            server.failures -= 1
            return self._answer(server.status)
        if self.path in server.redirects:
            return self._answer(302, {"Location": server.redirects[self.path]})
        if self.path not in server.files:
            return self._answer(404)
        content = server.files[self.path]
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        headers = {"ETag": etag} if server.etags else {}
        first = 0
        if asked and server.ranges and self.headers.get("If-Range") == etag:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                return self._answer(416)
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        cut = server.cuts.pop(0) if server.cuts else None
        return self._answer(206 if first else 200, headers, content[first:], cut)

    def _answer(self, status, headers=None, content=b"", cut=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True


@contextmanager
def serve():
    """A running `FileServer`."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
