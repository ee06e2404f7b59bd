"""Put a header into docker's config.json, and take it out again."""

from __future__ import annotations

import json
import os
from typing import Any

NOTE = "sockproxy-login.json"  # next to config.json: what was there before


class Config:
    """Hold docker's configuration of a user."""

    def __init__(self) -> None:
        folder = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
        self.path = os.path.realpath(os.path.join(folder, "config.json"))
        self._note = os.path.join(folder, NOTE)

    def authorization(self) -> str:
        """Give the header that is set now; "" for none.

        Raises:
            ValueError: the file is no JSON that docker would read.
        """
        return str(self._headers(self._read(self.path)).get("Authorization", ""))

    def set(self, authorization: str) -> None:
        """Set the header; what was there is kept for `restore`."""
        config = self._read(self.path)
        if not os.path.exists(self._note):
            self._write(self._note, {"before": self._headers(config).get("Authorization")})
        config["HttpHeaders"] = {**self._headers(config), "Authorization": authorization}
        self._write(self.path, config)

    def restore(self) -> None:
        """Bring back what was there before."""
        config, before = self._read(self.path), self._read(self._note).get("before")
        headers = self._headers(config)
        headers.pop("Authorization", None)
        if isinstance(before, str):
            headers["Authorization"] = before
        config.pop("HttpHeaders", None)
        if headers:
            config["HttpHeaders"] = headers
        self._write(self.path, config)
        if os.path.exists(self._note):
            os.unlink(self._note)

    @staticmethod
    def _headers(config: dict[str, Any]) -> dict[str, Any]:
        headers = config.get("HttpHeaders", {})
        if not isinstance(headers, dict):
            raise ValueError("HttpHeaders in docker's config.json is no object")
        return headers

    @staticmethod
    def _read(path: str) -> dict[str, Any]:
        try:
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
        except FileNotFoundError:
            return {}
        if not isinstance(found, dict):
            raise ValueError(f"{path} holds no object")
        return found

    @staticmethod
    def _write(path: str, content: dict[str, Any]) -> None:
        """Replace a file as a whole; it is nobody else's to read, since it holds a token."""
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        draft = f"{path}.sockproxy"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(content, file, indent="\t")
            file.write("\n")
        os.replace(draft, path)
