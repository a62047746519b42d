"""Problem documents, with which the API refuses a request, and the header of raw bodies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.server_process import Answer

RAW = {"Content-Type": "application/octet-stream"}


def refuse(answer: Answer, status: int, reason: str) -> None:
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = json.loads(answer.body)
    assert (problem["status"], problem["reason"]) == (status, reason)
    assert problem["detail"]
