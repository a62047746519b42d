"""A client that calls a model until it is stopped, while workers are killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from dataclasses import dataclass, field

from app.integrations.ryot.stand_in import MODEL
from tests.app.keyed_service import JSON
from tests.processes import PATIENCE_SECONDS

TOKENS = 60


@dataclass
class Caller:
    """Calls again and again, every second time with a stream, and notes what it got."""

    port: int
    stop: threading.Event = field(default_factory=threading.Event)
    sent: int = 0
    answered: int = 0
    tokens: int = 0

    def run(self) -> None:
        while not self.stop.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._call(stream=self.sent % 2 == 0)

    def _call(self, *, stream: bool) -> None:
        body = json.dumps({"model": MODEL, "prompt": ["The", "A worker"], "max_tokens": TOKENS, "stream": stream})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            self.sent += 1
            connection.request("POST", "/v1/completions", body, JSON)
            response = connection.getresponse()
            if not stream:
                self.tokens += json.loads(response.read())["usage"]["completion_tokens"]
                self.answered += 1
                return
            for line in response:
                if line == b"data: [DONE]\n":
                    self.answered += 1
                elif line.startswith(b"data: "):
                    self.tokens += bool(json.loads(line.removeprefix(b"data: "))["choices"][0]["text"])
