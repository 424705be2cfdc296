"""An S3 service that takes its time: moto's in a process of its own, so that neither waits for the other's threads."""

from __future__ import annotations

import http.client
import logging
import os
import re
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import unquote

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
RANGE = re.compile(r"bytes=(\d+)-(\d*)")
HOP = {"connection", "content-length", "transfer-encoding", "server", "date"}
COUNT, DELAY = "/-/count", "/-/delay/"


@contextmanager
def slow_store(buckets: tuple[str, ...] = ("bucket",)) -> Iterator[SlowStore]:
    """A running service with empty buckets, which answers at once until it is told otherwise."""
    process = subprocess.Popen([sys.executable, __file__, *buckets], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield SlowStore(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class SlowStore:
    """What is asked of the service itself, beside what S3 knows."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.environment = KEYS | {"AWS_ENDPOINT_URL": endpoint}

    def delay(self, seconds: float) -> None:
        """Hold every further answer back for so long."""
        self._ask(f"{DELAY}{seconds}")

    def counted(self) -> Counter[str]:
        """How many requests there were since this was last asked, by method."""
        return Counter(self._ask(COUNT).split())

    def _ask(self, path: str) -> str:
        with urllib.request.urlopen(self.endpoint + path) as answer:
            text: str = answer.read().decode()
        return text


class Front(socketserver.StreamRequestHandler):
    """Forwards to moto after a while. Objects that are there it takes from moto's memory, without its 3 ms of work."""

    disable_nagle_algorithm = True
    moto_port = 0
    buckets: Any = None
    seconds = 0.0
    asked: ClassVar[list[str]] = []

    def handle(self) -> None:
        """Every request of one connection."""
        while line := self.rfile.readline():
            method, target, _ = line.decode().split()
            headers = dict(header.split(": ", 1) for header in iter(lambda: self.rfile.readline().decode().strip(), ""))
            headers = {name.lower(): value for name, value in headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            self.wfile.write(self._answer(method, target, headers, body))

    def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
        if target.startswith(DELAY):
            Front.seconds = float(target.removeprefix(DELAY))
            return _response("200 OK", {}, b"")
        if target == COUNT:
            text = " ".join(self.asked).encode()
            self.asked.clear()
            return _response("200 OK", {}, text)
        self.asked.append(method)
        time.sleep(self.seconds)
        return (self._plain(target, headers) if method == "GET" else None) or self._forward(
            method, target, headers, body
        )

    def _plain(self, target: str, headers: dict[str, str]) -> bytes | None:
        bucket, _, name = unquote(target.lstrip("/")).partition("/")
        found = self.buckets[bucket].keys.get(name) if bucket in self.buckets and "?" not in target else None
        span = RANGE.fullmatch(headers.get("range", "bytes=0-"))
        if found is None or span is None or int(span[1]) >= found.size:
            return None
        start, size = int(span[1]), int(found.size)
        end = min(int(span[2]) + 1 if span[2] else size, size)
        described = {"ETag": found.etag, "Last-Modified": found.last_modified_RFC1123}
        if "range" not in headers:
            return _response("200 OK", described, found.value)
        described["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return _response("206 Partial Content", described, found.value[start:end])

    def _forward(self, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
        moto = http.client.HTTPConnection("127.0.0.1", self.moto_port)
        moto.request(method, target, body, headers)
        found = moto.getresponse()
        data = found.read()
        moto.close()
        kept = {name: value for name, value in found.getheaders() if name.lower() not in HOP}
        length = {"Content-Length": found.headers["Content-Length"]} if method == "HEAD" else {}
        return _response(f"{found.status} {found.reason}", kept, data, length)


def _response(status: str, headers: dict[str, str], body: bytes, length: dict[str, str] | None = None) -> bytes:
    lines = headers | (length or {"Content-Length": str(len(body))})
    return "\r\n".join([f"HTTP/1.1 {status}", *map(": ".join, lines.items()), "", ""]).encode() + body


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads, request_queue_size = True, 256


def _serve(buckets: list[str]) -> None:
    import boto3
    from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
    from moto.s3.models import s3_backends
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    parent = os.getppid()
    moto = make_server("127.0.0.1", 0, create_backend_app("s3"), threaded=True, request_handler=MotoRequestHandler)
    front = _Server(("127.0.0.1", 0), Front)
    Front.moto_port, Front.buckets = moto.server_port, s3_backends["123456789012"]["aws"].buckets
    for server in (moto, front):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= KEYS
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{moto.server_port}", region_name=KEYS["AWS_REGION"])
    for bucket in buckets:
        client.create_bucket(Bucket=bucket)
    print(f"http://127.0.0.1:{front.server_address[1]}", flush=True)
    while os.getppid() == parent:
        time.sleep(1)


if __name__ == "__main__":
    _serve(sys.argv[1:])
