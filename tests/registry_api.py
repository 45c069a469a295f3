"""A registry in memory that is as strict as ECR: tags stay, a manifest needs its blobs, blobs are elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "QVdTOmxvY2Fs"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class MemoryRegistry:
    """`refused`: a method and a part of the path, with the status that they get, and with `complaint` as the body.

    `sent`: what changed something.
    """

    host: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    refused: dict[tuple[str, str], int] = field(default_factory=dict)
    complaint: bytes = b'{"errors": [{"code": "DENIED", "message": "not for you"}]}'
    sent: list[str] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    tagged: Callable[[str, str, bytes], object] = lambda *_: None

    def add_blob(self, content: bytes) -> dict[str, Any]:
        self.blobs[digest_of(content)] = content
        return {"size": len(content), "digest": digest_of(content)}

    def add_image(self, tag: str, media_type: str = DOCKER, **changes: Any) -> str:
        """An image of one layer. Returns its digest."""
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin", "STAGE=pipeline"], "Cmd": ["serve"], "Labels": {"kept": "yes"}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(b"base")]},
            "history": [{"created_by": "the Dockerfile"}],
            **changes,
        }
        content = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {"mediaType": CONFIG, **self.add_blob(json.dumps(config).encode())},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", **self.add_blob(b"base")}],
        }
        return self.add_manifest(tag, media_type, content)

    def add_manifest(self, tag: str, media_type: str, content: dict[str, Any]) -> str:
        written = json.dumps(content).encode()
        self.manifests[digest_of(written)] = (media_type, written)
        self.tags[tag] = digest_of(written)
        return digest_of(written)

    def put(self, name: str, tag: str, media_type: str, content: bytes) -> int:
        parsed = json.loads(content)
        if tag in self.tags:
            return 409
        if {one["digest"] for one in [parsed["config"], *parsed["layers"]]} - self.blobs.keys():
            return 400
        self.add_manifest(tag, media_type, {})
        self.manifests[digest_of(content)] = (media_type, content)
        self.tags[tag] = digest_of(content)
        self.tagged(name, tag, content)
        return 201


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: MemoryRegistry

    def do_GET(self) -> None:
        if found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", self.path):
            media_type, content = self.registry.manifests.get(
                self.registry.tags.get(found[2], found[2]), ("", b"")
            )  # fmt: skip
            self._answer(200 if content else 404, content, {"Content-Type": media_type} if content else {})
        elif found := re.fullmatch(r"/v2/(.+)/blobs/(sha256:.+)", self.path):
            known = found[2] in self.registry.blobs
            self._answer(307 if known else 404, b"", {"Location": f"/storage/{found[2]}"})
        elif self.headers.get("Authorization"):
            self._answer(400, b"Only one auth mechanism allowed", {})  # as S3
        else:
            self._answer(200, self.registry.blobs[self.path.rpartition("/")[2]], {})

    def do_HEAD(self) -> None:
        self._answer(200 if self.path.rpartition("/")[2] in self.registry.blobs else 404, b"", {})

    def do_POST(self) -> None:
        self._body()
        place = f"upload-{len(self.registry.uploads)}"
        self.registry.uploads[place] = b""
        self._answer(202, b"", {"Location": f"{self.path}{place}?state=1"})

    def do_PATCH(self) -> None:
        self.registry.uploads[urlsplit(self.path).path.rpartition("/")[2]] += self._body()
        self._answer(202, b"", {"Location": f"http://{self.headers['Host']}{self.path}"})

    def do_PUT(self) -> None:
        body, parts = self._body(), urlsplit(self.path)
        if self._refusals():
            self._answer(500, b"", {})
        elif found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", parts.path):
            self._answer(self.registry.put(found[1], found[2], self.headers["Content-Type"], body), b"", {})
        else:
            content = self.registry.uploads.pop(parts.path.rpartition("/")[2])
            right = parse_qs(parts.query)["digest"] == [digest_of(content)]
            self.registry.blobs |= {digest_of(content): content} if right else {}
            self._answer(201 if right else 400, b"", {})

    def _refusals(self) -> list[int]:
        refused = self.registry.refused.items()
        return [code for (method, part), code in refused if method == self.command and part in self.path]

    def _body(self) -> bytes:
        self.registry.sent.append(f"{self.command} {urlsplit(self.path).path}")
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        wanted = self._refusals()
        if self.path.startswith("/v2/") and self.headers.get("Authorization") != f"Basic {TOKEN}":
            wanted = [401]
        if wanted:
            status, headers = wanted[0], {}
            body = self.registry.complaint
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def memory_registry() -> Iterator[MemoryRegistry]:
    registry = MemoryRegistry()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"registry": registry}))
    registry.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
