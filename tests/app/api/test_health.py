from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from starlette.requests import Request

from app.api.health import started

if TYPE_CHECKING:
    from tests.server_process import Served


def test_live_and_ready(served: Served) -> None:
    for path, status in (("/health/live", "ok"), ("/health/ready", "ready")):
        answer = served.ask("GET", path)
        assert answer.status == 200
        assert json.loads(answer.body) == {"status": status}


def test_not_ready_before_the_start_and_after_the_stop(environment: dict[str, str]) -> None:
    from fastapi import FastAPI

    from app.api import health, problems

    del environment
    app = FastAPI()
    problems.install(app)
    app.include_router(health.router)
    assert not started(Request({"type": "http", "app": app}))

    async def probe() -> tuple[int, dict[str, object], bytes]:
        sent: list[dict[str, object]] = []

        async def send(message: object) -> None:
            assert isinstance(message, dict)
            sent.append(message)

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": "GET", "path": "/health/ready", "headers": [], "query_string": b"", "app": app}
        await app(scope, receive, send)  # type: ignore[arg-type]
        headers = dict(sent[0]["headers"])  # type: ignore[call-overload]
        return sent[0]["status"], headers, sent[1]["body"]  # type: ignore[return-value]

    status, headers, body = asyncio.run(probe())
    assert status == 503
    assert headers[b"content-type"] == b"application/problem+json"
    assert json.loads(body)["reason"] == "not_started"
    app.state.started = True
    assert asyncio.run(probe())[0] == 200


def test_errors_of_the_router_are_problems(served: Served) -> None:
    missing = served.ask("GET", "/nowhere")
    assert (missing.status, missing.headers["content-type"]) == (404, "application/problem+json")
    assert json.loads(missing.body)["reason"] == "not_found"
    wrong = served.ask("GET", "/v1/compress")
    assert wrong.status == 405
    assert wrong.headers["allow"] == "POST"
    assert json.loads(wrong.body)["status"] == 405
