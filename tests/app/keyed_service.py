"""A server that wants API keys, and what it is asked with them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.conftest import ROOT, built_environment

if TYPE_CHECKING:
    from tests.server_process import Answer, Served

ADMIN = "the-operators-own-key"
JSON = {"Content-Type": "application/json"}


@dataclass
class Service:
    """A server that wants keys, and where its database is."""

    served: Served
    settings: dict[str, str]

    def ask(self, method: str, path: str, key: str | None = ADMIN, body: object = None) -> Answer:
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        return self.served.ask(method, path, raw, (JSON if raw is not None else {}) | ({} if key is None else bearer(key)))

    def key(self, user: str, **more: Any) -> dict[str, Any]:
        answer = self.ask("POST", "/v1/keys", body={"user": user, **more})
        assert answer.status == 201, answer.body
        assert answer.headers["cache-control"] == "no-store"
        made: dict[str, Any] = json.loads(answer.body)
        return made

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = built_environment() | self.settings
        command = [sys.executable, "-m", "app.keys", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def refused(answer: Answer, status: int, reason: str, *, in_openais_format: bool = False) -> None:
    assert answer.status == status, answer
    said = json.loads(answer.body)
    if in_openais_format:
        assert answer.headers["content-type"] == "application/json"
        assert said["error"]["code"] == "invalid_api_key"
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert (said["status"], said["reason"]) == (status, reason)
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
