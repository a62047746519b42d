"""One request: its content, its pace, its key, the expected answers, and the metrics that it moves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from monitoring.verify.ledger import Ledger

Role = Literal["user", "admin", "anonymous", "unknown_key"]
"""The key: a user's, the admin's, none, or one that the service does not know."""

Moves = Callable[["Outcome", "Ledger"], None]

RAW = "application/octet-stream"
JSON = "application/json"
OK = frozenset({200})


@dataclass(frozen=True)
class Pace:
    """How slowly a request is sent and read, and whether the client leaves early."""

    #: Seconds for sending the body, and for reading the answer.
    sending: float = 0.0
    reading: float = 0.0
    #: Leave in the middle of the request body, or after the first bytes of the answer.
    leaves: Literal["", "sending", "reading"] = ""


@dataclass(frozen=True)
class Request:
    """One request. `endpoint` is the route template in the labels of its samples."""

    method: str
    path: str
    endpoint: str = ""
    body: bytes = b""
    media_type: str = ""
    role: Role = "user"
    #: Statuses that are not reported as unexpected.
    expects: frozenset[int] = OK
    #: Records in the ledger what an operation of the service counts in addition to HTTP.
    moves: Moves | None = None
    pace: Pace = field(default_factory=Pace)

    @property
    def template(self) -> str:
        """The endpoint; by default the path without its query."""
        return self.endpoint or self.path.partition("?")[0]


@dataclass
class Outcome:
    """The answer to a request: the status is 0 if none came, and `whole` is false if it was not read to its end."""

    request: Request
    status: int = 0
    body: bytes = b""
    whole: bool = False

    def json(self) -> Any:
        """Return the parsed body; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def why(self) -> str:
        """The error message of the service, in one line."""
        body = self.json()
        if not isinstance(body, dict):
            return ""
        inner = body.get("error")
        text = inner.get("message") if isinstance(inner, dict) else body.get("detail")
        return " ".join(str(text or "").split())[:300]


def encode_json(value: object) -> bytes:
    """Encode a value as JSON."""
    return json.dumps(value).encode()
