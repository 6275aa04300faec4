"""A small HTTP server in this process: objects in memory, S3's conditional writes, and
faults on request. Speaks enough S3 for obstore (path style, signatures ignored)."""

import hashlib
import re
import socket
import struct
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from embarchive.headers import headers_of

ROOT = "/bucket/archive/"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urlsplit(self.path)
        fault = self._fault()
        if "list-type" in url.query and not is_code(fault):
            return self._list(parse_qs(url.query)["prefix"][0])
        data = self.server.objects.get(unquote(url.path))
        if fault == "redirect":
            return self._answer(302, b"", {"Location": self.server.elsewhere})
        if fault in ("status", "reset") or is_code(fault) or data is None:
            return self._refuse(fault)
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(span[1]), min(int(span[2]) + 1, len(data))) if span else (0, len(data))
        body = data[start:end]
        if fault == "shifted":
            body = data[start + 1 : end + 1]
        elif fault == "short":
            body = body[: len(body) // 2]
        elif fault == "long":
            body += b"\0" * 5000
        elif fault == "flip":
            body = bytes([body[0] ^ 4]) + body[1:]
        elif fault == "empty":
            body = b""
        head = {"ETag": f'"{hashlib.md5(data).hexdigest()}"'}
        head["Content-Type"] = headers_of(url.path)["content-type"]
        if span and fault != "full":
            head["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        code = 206 if "Content-Range" in head else 200
        if fault == "mislabelled":
            head["Content-Range"] = f"bytes {start + 1}-{end}/{len(data)}"
        self._answer(code, data if fault == "full" else body, head, fault)

    do_HEAD = do_GET

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault, path = self._fault(), unquote(urlsplit(self.path).path)
        if fault in ("status", "reset", "full") or is_code(fault):
            return self._refuse(fault)
        with self.server.lock:
            old = self.server.objects.get(path)
            tag = old and f'"{hashlib.md5(old).hexdigest()}"'
            none, match = self.headers.get("If-None-Match"), self.headers.get("If-Match")
            if self.server.conditional and ((none and old) or (match and match != tag)):
                return self._answer(412, b"")
            self.server.objects[path] = body
            self.server.sent[path] = {key.lower(): said for key, said in self.headers.items()}
        if fault in ("lost", "lost503"):
            return self._refuse("reset" if fault == "lost" else "status")
        self._answer(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})

    def do_DELETE(self):
        self.server.objects.pop(unquote(urlsplit(self.path).path), None)
        self._answer(204, b"")

    def _fault(self):
        """The first fault planned for this method and path; counts the request."""
        with self.server.lock:
            self.server.seen.append((self.command, self.path))
            for plan in self.server.faults:
                if plan["method"] == self.command and plan["part"] in self.path and plan["times"]:
                    plan["times"] -= 1
                    return plan["kind"]
        return None

    def _refuse(self, fault):
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        if fault == "full":
            return self._answer(500, b"<Error><Code>InternalError</Code></Error>")
        if is_code(fault):
            status = {"PermanentRedirect": 301, "ExpiredToken": 400, "InvalidToken": 400}
            body = f"<Error><Code>{fault}</Code></Error>".encode()
            return self._answer(status.get(fault, 403), body)
        # a hostile or careless server says back what it was sent
        said = f"{self.path} {self.headers.get('Authorization')}".encode()
        self._answer(503 if fault == "status" else 404, said)

    def _answer(self, code, body, head=None, fault=None):
        if fault == "drip_head":
            return self._drip(b"HTTP/1.1 206 Partial Content\r\nX-Long: " + b"x" * 500)
        self.send_response(code)
        for key, value in (head or {}).items():
            self.send_header(key, value)
        self.send_header("Last-Modified", "Sat, 21 Nov 2026 08:00:00 GMT")
        if fault == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD" or code == 204:
            return
        if fault == "truncated":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif fault == "drip":
            self._drip(body)
        else:
            self.wfile.write(body)

    def _drip(self, data):
        try:
            for byte in data:
                self.wfile.write(bytes([byte]))
                time.sleep(0.1)
        except OSError:
            self.close_connection = True

    def _list(self, prefix):
        start = f"/bucket/{prefix}"
        rows = "".join(
            f"<Contents><Key>{path[8:]}</Key><Size>{len(data)}</Size>"
            "<LastModified>2026-11-21T08:00:00.000Z</LastModified></Contents>"
            for path, data in sorted(self.server.objects.items())
            if path.startswith(start)
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        self._answer(200, text.encode(), {"Content-Type": "application/xml"})


def is_code(fault):
    """Whether a fault is S3's name of a refusal."""
    return bool(fault) and fault[0].isupper()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects, self.faults, self.seen = {}, [], []
        self.sent = {}  # headers of the last PUT, by path
        self.lock, self.conditional, self.elsewhere = threading.Lock(), True, "/"
        self.connections = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, *args):
        self.connections += 1
        super().process_request(*args)

    def handle_error(self, *_):
        pass

    def put(self, path, data):
        self.objects[ROOT + path] = data

    def break_(self, method, part, kind, times=1):
        """The next `times` requests of this method whose path holds `part` meet the fault."""
        self.faults.append({"method": method, "part": part, "kind": kind, "times": times})

    def environment(self, **more):
        """What AWS_* variables a user would set."""
        keys = {"AWS_ACCESS_KEY_ID": "AKIDCANARY", "AWS_SECRET_ACCESS_KEY": "SECRETCANARY"}
        return {**keys, "AWS_ENDPOINT_URL": self.url, "AWS_ALLOW_HTTP": "true",
                "AWS_REGION": "us-east-1", **more}  # fmt: skip


@contextmanager
def serving():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
