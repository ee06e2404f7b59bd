"""A registry that only claims to have what it names: a hostile one, whose manifests are written by a test.

Run as a program, with a port and a file of JSON: `{"manifests": {REFERENCE: {"digest", "type", "size", "text"?}},
"blobs": {DIGEST: TEXT}}`. A manifest without a text is announced, and never handed out; so is any blob not listed.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import sys
from pathlib import Path
from typing import Any, ClassVar

from tests.support.engines import Engine
from tests.support.proxy import eventually

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
PORT = 18500
CHECKOUT = Path(__file__).parents[2]


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class ClaimingRegistry:
    """The registry, on the loopback of an engine.

    Attributes:
        name: HOST:PORT.
    """

    def __init__(self, engine: Engine) -> None:
        self.name = f"127.0.0.1:{PORT}"
        self._file = engine.folder / "claims.json"
        self._claims: dict[str, Any] = {"manifests": {}, "blobs": {}}
        self._write()
        engine.start([sys.executable, "-m", __name__, str(PORT), str(self._file)], cwd=CHECKOUT)
        probe = ["curl", "-fsm", "1", f"http://{self.name}/v2/"]
        eventually(lambda: engine.exec(probe, capture_output=True).returncode == 0, "the registry")

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(self._claims))
        new.rename(self._file)

    def claim(self, reference: str, of: str, kind: str = MANIFEST, size: int = 500) -> None:
        """Say that a tag, or a digest, is a manifest of this digest, without having it."""
        self._claims["manifests"][reference] = {"digest": of, "type": kind, "size": size}
        self._write()

    def offer(
        self, reference: str, config: str, layers: list[tuple[str, int]], config_text: str = "", kind: str = LAYER
    ) -> str:
        """Hand out a manifest that names a config and layers of these digests; give its own digest."""
        if config_text:
            self._claims["blobs"][config] = config_text
        text = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "size": len(config_text) or 500, "digest": config},
                "layers": [{"mediaType": kind, "size": size, "digest": layer} for layer, size in layers],
            }
        )
        told = {"digest": digest(text), "type": MANIFEST, "size": len(text), "text": text}
        self._claims["manifests"] |= {reference: told, digest(text): told}
        self._write()
        return digest(text)

    def wrap(self, reference: str, manifest: str, size: int, kind: str = MANIFEST, **others: str) -> None:
        """Hand out an index that names a manifest of this digest, for this machine's platform.

        Args:
            others: what else is handed out that it names, by architecture.
        """
        found = {{"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]: (manifest, size)}
        found |= {name: (one, len(self.text(one))) for name, one in others.items()}
        described = [
            {
                "mediaType": kind,
                "digest": one,
                "size": length,
                "platform": {"os": "linux", "architecture": architecture},
            }
            for architecture, (one, length) in found.items()
        ]
        text = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": described})
        told = {"digest": digest(text), "type": INDEX, "size": len(text), "text": text}
        self._claims["manifests"] |= {reference: told, digest(text): told}
        self._write()

    def turn(self, reference: str, *manifests: str) -> None:
        """Have a tag mean another manifest each time it is asked for; in the end the last one."""
        self._claims["turns"] = self._claims.get("turns", {}) | {reference: list(manifests)}
        self._write()

    def text(self, reference: str) -> str:
        """Give what it hands out under a tag, or a digest."""
        return str(self._claims["manifests"][reference]["text"])


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: ClassVar[dict[str, int]] = {}  # how often, of tags that take turns

    def parse_request(self) -> bool:
        """Answer a TLS handshake in plain HTTP, by which clients know to speak that to a registry on the loopback."""
        if self.raw_requestline[:1] == b"\x16":
            self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            self.close_connection = True
            return False
        return super().parse_request()

    def do_GET(self) -> None:
        claims = json.loads(Path(sys.argv[2]).read_text())
        kind, _, reference = self.path.rpartition("/")
        if turns := claims.get("turns", {}).get(reference):
            asked = _Handler.asked[reference] = _Handler.asked.get(reference, 0) + 1
            reference = turns[min(asked, len(turns)) - 1]
        if self.path == "/v2/":
            self._say(200, "", {})
        elif kind.endswith("/manifests") and reference in claims["manifests"]:
            found = claims["manifests"][reference]
            told = {"Content-Type": found["type"], "Docker-Content-Digest": found["digest"]}
            if self.command == "HEAD":
                self._say(200, "", {**told, "Content-Length": str(found["size"])})
            else:
                self._say(200 if "text" in found else 500, found.get("text", ""), told)
        elif kind.endswith("/blobs") and reference in claims["blobs"]:
            self._say(200, claims["blobs"][reference], {"Content-Type": "application/octet-stream"})
        else:
            self._say(404, "", {})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Take nothing, in words by which a daemon does not try again for a minute."""
        refused = {"errors": [{"code": "DENIED", "message": "this registry takes nothing"}]}
        self._say(403, json.dumps(refused), {"Content-Type": "application/json"})

    def _say(self, status: int, body: str, fields: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | fields).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    def log_message(self, form: str, *words: object) -> None:
        """Say it on stderr, for who debugs a test."""
        print(self.command, self.path, form % words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
