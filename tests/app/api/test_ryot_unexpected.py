"""What nobody foresaw, on the routes in OpenAI's format: told in that format, logged with its cause, counted as an error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.keyed_service import JSON
from tests.app.scraped import call, gained, samples
from tests.conftest import ROOT, built_environment, data_directory, unused_port
from tests.processes import wait_until
from tests.server_process import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = '''
"""The service, before a backend that has a bug."""

from app.main import app


class Broken:
    timeout_seconds = stream_seconds = 60.0

    async def models(self):
        raise ZeroDivisionError("a bug in models")

    async def knows(self, model):
        return True

    async def complete(self, call, progress):
        raise ZeroDivisionError("a bug in complete")

    async def stream(self, call):
        if call.model == "late":
            yield {"choices": [{"index": 0, "text": "Hello", "finish_reason": None}]}
        raise ZeroDivisionError("a bug in stream")

    async def start(self):
        pass

    async def close(self):
        pass


app.state.ryot = Broken()


@app.get("/elsewhere")
async def elsewhere():
    raise ZeroDivisionError("a bug elsewhere")
'''


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("broken")
    (folder / "broken_service.py").write_text(PROGRAM)
    metrics = folder / "metrics"
    metrics.mkdir(mode=0o700)
    environment = built_environment() | {
        "PYTHONPATH": f"{ROOT}:{folder}",
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        "DATA_DIR": data_directory(folder / "data"),
    }
    port = unused_port()
    arguments = ["-m", "uvicorn", "--port", str(port), "broken_service:app"]
    with serving(arguments, port, "/health/live", environment, folder / "log") as server:
        yield server


def document(raw: bytes) -> Any:
    error = json.loads(raw)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("method", "path", "bug"),
    [
        ("GET", "/v1/models", "models"),
        ("GET", "/v1/models/x", "models"),
        ("POST", "/v1/completions", "complete"),
        ("POST", "/v1/chat/completions", "complete"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_it_is_an_error_in_openais_format(broken: Served, method: str, path: str, bug: str, stream: bool) -> None:
    before = samples(broken)
    given = {"model": "m", "prompt": "x", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    answer = broken.ask(method, path, json.dumps(given).encode() if method == "POST" else None, JSON)
    assert (answer.status, answer.headers["content-type"]) == (500, "application/json")
    error = document(answer.body)
    assert (error["type"], error["code"]) == ("server_error", "unexpected")
    assert "bug" not in error["message"]
    # The server logs it once it has answered.
    told = f"ZeroDivisionError: a bug in {'stream' if stream and method == 'POST' else bug}"
    wait_until(lambda: told in broken.log.read_text(), "the cause is logged")
    if method == "POST":
        assert call("error", "m").items() <= gained(broken, before).items()


def test_a_stream_that_has_begun_ends_with_an_event(broken: Served) -> None:
    before = samples(broken)
    answer = broken.ask("POST", "/v1/completions", json.dumps({"model": "late", "prompt": "x", "stream": True}).encode(), JSON)
    chunk, last = (event.removeprefix(b"data: ") for event in answer.body.split(b"\n\n") if event)
    assert (answer.status, json.loads(chunk)["choices"][0]["text"]) == (200, "Hello")
    assert document(last)["code"] == "unexpected"
    assert call("error", "late").items() <= gained(broken, before).items()
    wait_until(lambda: "a bug in stream" in broken.log.read_text(), "the cause is logged")


def test_other_routes_answer_as_ever(broken: Served) -> None:
    answer = broken.ask("GET", "/elsewhere")
    assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json")
    assert json.loads(answer.body)["reason"] == "unexpected"
