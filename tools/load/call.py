"""One call: what is sent and how, by whom, what may be answered, and what it then has moved."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tools.load.ledger import Ledger

Role = Literal["user", "admin", "nobody", "stranger"]
"""With a user's key, the admin's, none, or a wrong one."""

Moves = Callable[["Outcome", "Ledger"], None]

RAW = "application/octet-stream"
JSON = "application/json"
OK = frozenset({200})


@dataclass(frozen=True)
class Pace:
    """How a call is slow, or broken off."""

    #: Seconds that the body takes to be sent, and the answer to be read.
    sending: float = 0.0
    reading: float = 0.0
    #: Leave without the answer: in the middle of the body, or after the first bytes of the answer's.
    leaves: Literal["", "sending", "reading"] = ""


@dataclass(frozen=True)
class Call:
    """One request. `endpoint` is the template that its samples carry."""

    method: str
    path: str
    endpoint: str = ""
    body: bytes = b""
    media_type: str = ""
    role: Role = "user"
    #: Statuses that surprise nobody.
    expects: frozenset[int] = OK
    #: Writes into the ledger what an operation of the service counts beside HTTP.
    moves: Moves | None = None
    pace: Pace = field(default_factory=Pace)

    @property
    def template(self) -> str:
        """The endpoint, which is the path where that has no parameters."""
        return self.endpoint or self.path.partition("?")[0]


@dataclass
class Outcome:
    """What came of a call: no status, or not `whole`, where its answer never came or was not read to its end."""

    call: Call
    status: int = 0
    body: bytes = b""
    whole: bool = False

    def json(self) -> Any:
        """Give the body; None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def why(self) -> str:
        """What the service says is wrong, in one line."""
        said = self.json()
        if not isinstance(said, dict):
            return ""
        inner = said.get("error")
        text = inner.get("message") if isinstance(inner, dict) else said.get("detail")
        return " ".join(str(text or "").split())[:300]


def sent_json(value: object) -> bytes:
    """Write JSON."""
    return json.dumps(value).encode()
