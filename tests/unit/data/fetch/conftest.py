"""A real server on this machine that can fail in every way that a network does, and a COCO of its own."""

import io
import json
import threading
import zipfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from detrkit.data.fetch.releases import Archive, Release, Split


@dataclass
class Answer:
    """How one request is answered."""

    status: int = 200
    location: str = ""
    cut: int | None = None
    """The connection is closed after this many bytes."""
    ranges: bool = True
    """Whether the Range header is heeded."""
    stated: int | None = None
    """A Content-Length that is not that of the body."""
    has_length: bool = True
    shift: int = 0
    """How far a range starts from where it was asked for."""
    spoil: bool = False
    """Whether one byte of the body is wrong."""
    hold: threading.Event | None = None
    """The second half of the body comes once this is set."""


class Request(NamedTuple):
    target: str
    first: int | None
    sent: int


@dataclass
class Server:
    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, deque[Answer]] = field(default_factory=lambda: defaultdict(deque))
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, times: int = 1, **how: Any) -> None:
        """Answer the next requests for a path so, and those after them as a good server does."""
        self.answers[path].extend([Answer(**how)] * times)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server

    def do_GET(self) -> None:
        path = urlsplit(self.path).path  # a proxy is asked for the whole address
        queue = self.state.answers[path]
        answer = queue.popleft() if queue else Answer()
        asked = self.headers.get("Range")
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else None
        body = self.state.files.get(path)
        status = 404 if body is None and not answer.location else answer.status
        if status == 200 and body is not None:
            self._send_body(body, first, answer)
        else:
            self.state.requests.append(Request(self.path, first, 0))
            self._send_nothing(status, answer.location)

    def _send_nothing(self, status: int, location: str) -> None:
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_body(self, whole: bytes, first: int | None, answer: Answer) -> None:
        start = (first or 0) + answer.shift if answer.ranges else 0
        body = bytearray(whole[start:])
        if answer.spoil:
            body[0] ^= 1
        part = bytes(body[: answer.cut])
        self.state.requests.append(Request(self.path, first, len(part)))
        if first is not None and answer.ranges:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        else:
            self.send_response(200)
        if answer.has_length:
            self.send_header("Content-Length", str(answer.stated or len(body)))
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):  # the client went away
            self.wfile.write(part[: len(part) // 2])
            if answer.hold is not None:
                answer.hold.wait(60)
            self.wfile.write(part[len(part) // 2 :])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = Server()
    listening = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": server}))
    listening.daemon_threads = True
    server.url = f"http://127.0.0.1:{listening.server_address[1]}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    listening.shutdown()
    listening.server_close()
    thread.join()


def make_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, content in files.items():
            packing = zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED
            opened.writestr(name, content, packing)
    return buffer.getvalue()


@pytest.fixture
def zipped() -> Callable[[dict[str, bytes]], bytes]:
    return make_zip


class Coco(NamedTuple):
    """A small COCO as it lies on the server: its description, and what its archives hold."""

    release: Release
    files: dict[str, bytes]


@pytest.fixture
def coco(server: Server) -> Coco:
    """3 images of train2017 and 2 of val2017, in archives made like the official ones."""
    files: dict[str, bytes] = {}
    for split, count in (("train2017", 3), ("val2017", 2)):
        names = [f"{number:012d}.jpg" for number in range(1, count + 1)]
        files |= {f"{split}/{name}": _jpeg(len(name) + number) for number, name in enumerate(names)}
        files[f"annotations/instances_{split}.json"] = _instances(names)
        files[f"annotations/captions_{split}.json"] = b'{"annotations": []}'

    def publish(path: str, folder: str) -> Archive:
        chosen = {name: content for name, content in files.items() if name.startswith(f"{folder}/")}
        content = make_zip({f"{folder}/": b""} | chosen)
        server.files[f"/{path}"] = content
        return Archive(path, len(content), sha256(content).hexdigest())

    release = Release(
        publish("annotations/annotations_trainval2017.zip", "annotations"),
        {
            "train2017": Split(publish("zips/train2017.zip", "train2017"), 3),
            "val2017": Split(publish("zips/val2017.zip", "val2017"), 2),
        },
    )
    return Coco(release, files)


def _jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def _instances(names: list[str]) -> bytes:
    images = [{"id": int(name[:12]), "file_name": name, "width": 24, "height": 16} for name in names]
    annotations = [
        {"id": image["id"], "image_id": image["id"], "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12}
        for image in images
    ]
    categories = [{"id": 1, "name": "person"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()
