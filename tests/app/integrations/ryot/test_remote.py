"""The service before a real OpenAI-compatible server: what passes through, every way in which it fails, and what each of them counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import tempfile
from typing import TYPE_CHECKING, Any

import openai
import pytest

from app.integrations.ryot import BadBackendError, remote
from tests.app.keyed_service import JSON
from tests.app.openai_server import MODELS, USAGE, OpenAIServer, openai_server
from tests.app.scraped import call, gained, samples
from tests.conftest import built_environment, data_directory, unused_port
from tests.processes import wait_until
from tests.server_process import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MESSAGES: Any = [{"role": "user", "content": "Say hello."}]


@contextlib.contextmanager
def service(folder: Path, base_url: str, **environ: str) -> Iterator[Served]:
    """Serve the app before a backend, uvicorn alone."""
    directory = tempfile.mkdtemp(prefix="neurectomy-test-", dir="/dev/shm")
    port = unused_port()
    environment = {
        **built_environment(),
        "PROMETHEUS_MULTIPROC_DIR": directory,
        "DATA_DIR": data_directory(folder / "data"),
        "RYOT_BASE_URL": base_url,
        "OPENAI_API_KEY": "another's",
        "RYOT_BREAKER": "off",  # each test asks for failures of its own
        **environ,
    }
    try:
        with serving(["-m", "uvicorn", "--port", str(port), "app.main:app"], port, "/health/live", environment, folder / "log") as server:
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def backend() -> Iterator[OpenAIServer]:
    with openai_server() as server:
        yield server


@pytest.fixture(scope="module")
def before_backend(backend: OpenAIServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with service(tmp_path_factory.mktemp("remote"), backend.url, RYOT_API_KEY="k3y", RYOT_TIMEOUT="30") as server:
        yield server


@pytest.fixture(scope="module")
def impatient(backend: OpenAIServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with service(tmp_path_factory.mktemp("impatient"), backend.url, RYOT_TIMEOUT="3", RYOT_STREAM_TIMEOUT="6") as server:
        server.ask("GET", "/v1/models")
        yield server


def client_of(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{served.port}/v1", api_key="theirs", max_retries=0, timeout=60)


def ask(served: Served, model: str, *, stream: bool = False, chat: bool = False) -> Any:
    """Give (status, error document or None, events)."""
    prompt = {"messages": MESSAGES} if chat else {"prompt": "x"}
    body = json.dumps({"model": model, "stream": stream, **prompt}).encode()
    answer = served.ask("POST", "/v1/chat/completions" if chat else "/v1/completions", body, JSON)
    events = [line.removeprefix(b"data: ") for line in answer.body.split(b"\n\n") if line] if answer.status == 200 and stream else []
    error = json.loads(answer.body)["error"] if answer.status != 200 else None
    return answer.status, error, events


def tokens(model: str, prompt: int, generated: int) -> dict[str, float]:
    found = {f'prompt_tokens_total{{model="{model}"}}': prompt, f'tokens_generated_total{{model="{model}"}}': generated}
    return {name: value for name, value in found.items() if value}


def batch(model: str) -> dict[str, float]:
    return {f'batch_size_count{{model="{model}"}}': 1, f'batch_size_sum{{model="{model}"}}': 1}


def times(model: str, *, each: bool = True) -> dict[str, float]:
    found = {f'time_to_first_token_seconds_count{{model="{model}"}}': 1.0}
    return found | ({f'time_per_output_token_seconds_count{{model="{model}"}}': 1.0} if each else {})


def test_the_backends_models_are_listed(before_backend: Served) -> None:
    assert [model.id for model in client_of(before_backend).models.list()] == MODELS
    assert client_of(before_backend).models.retrieve("no/usage").owned_by == "test"


def test_a_call_passes_through_with_everything_in_it(before_backend: Served, backend: OpenAIServer) -> None:
    before = samples(before_backend)
    done = client_of(before_backend).chat.completions.create(
        model="good", messages=MESSAGES, tools=[{"type": "function", "function": {"name": "f"}}], extra_body={"top_k": 3}
    )
    assert done.choices[0].message.content == "Hello dear world!"
    assert done.usage is not None
    assert done.usage.model_dump(exclude_unset=True) == USAGE
    path, body, headers = backend.seen[-1]
    assert (path, body["top_k"], body["tools"][0]["type"], body["messages"]) == ("/v1/chat/completions", 3, "function", MESSAGES)
    assert headers["authorization"] == "Bearer k3y"
    assert gained(before_backend, before) == call("success", "good") | tokens("good", 7, 5) | batch("good")


def test_a_stream_passes_through_and_the_servers_usage_is_counted(before_backend: Served, backend: OpenAIServer) -> None:
    before = samples(before_backend)
    stream = client_of(before_backend).completions.create(model="good", prompt="x", stream=True, stream_options={"include_usage": True})
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Hello dear world!"
    assert last.usage is not None
    assert last.usage.completion_tokens == 5
    assert gained(before_backend, before) == call("success", "good") | tokens("good", 7, 5) | batch("good") | times("good")
    # The usage is asked for whether or not the client wants it.
    _, _, events = ask(before_backend, "good", stream=True, chat=True)
    assert backend.seen[-1][1]["stream_options"] == {"include_usage": True}
    assert events[-1] == b"[DONE]"
    assert not any(b"usage" in event for event in events)


def test_without_usage_the_chunks_are_counted(before_backend: Served) -> None:
    before = samples(before_backend)
    assert ask(before_backend, "no/usage", stream=True)[2][-1] == b"[DONE]"
    assert gained(before_backend, before) == call("success", "no/usage") | tokens("no/usage", 0, 4) | batch("no/usage") | times("no/usage")


def test_a_failure_is_tried_again(before_backend: Served) -> None:
    before = samples(before_backend)
    assert ask(before_backend, "fails-once")[0] == 200
    assert gained(before_backend, before) == call("success", "fails-once") | tokens("fails-once", 7, 5) | batch("fails-once")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status", "message"),
    [
        ("dead", 502, "cannot be reached"),
        ("fails", 502, "status 500"),
        ("teapot", 502, "status 418"),
        ("html", 502, ""),
        ("no-json", 502, ""),
        ("a-list", 502, ""),
        ("no-choices", 502, ""),
        ("broken", 502, ""),
        ("refuses", 400, "refuses: no"),
        ("busy", 429, "busy: no"),
        ("locked", 502, "RYOT_API_KEY"),
    ],
)
def test_a_bad_backend(before_backend: Served, model: str, status: int, message: str, stream: bool) -> None:
    before = samples(before_backend)
    code, error, _ = ask(before_backend, model, stream=stream, chat=stream)
    assert code == status
    assert set(error) == {"message", "type", "param", "code"}
    assert message in error["message"]
    assert "k3y" not in error["message"]
    assert gained(before_backend, before) == call("error", model) | batch(model)
    assert "Traceback" not in before_backend.log.read_text()


def test_numbers_that_are_none_and_characters_that_are_half(before_backend: Served) -> None:
    assert ask(before_backend, "nan")[0] == 502
    assert ask(before_backend, "surrogate")[0] == 200
    before = samples(before_backend)
    assert ask(before_backend, "liar")[0] == 200
    assert gained(before_backend, before) == call("success", "liar") | batch("liar")


@pytest.mark.parametrize(("model", "message"), [("cut", "ended before"), ("told-of", "out of memory")])
def test_a_stream_that_breaks_off_says_so(before_backend: Served, model: str, message: str) -> None:
    before = samples(before_backend)
    status, _, events = ask(before_backend, model, stream=True)
    assert status == 200
    assert json.loads(events[0])["choices"][0]["text"] == "Hello"
    assert message in json.loads(events[-1])["error"]["message"]
    assert gained(before_backend, before) == call("error", model) | tokens(model, 0, 1) | batch(model) | times(model, each=False)
    with pytest.raises(openai.APIError, match=message):
        list(client_of(before_backend).completions.create(model=model, prompt="x", stream=True))


@pytest.mark.parametrize("stream", [False, True])
def test_a_slow_backend_is_given_up(impatient: Served, backend: OpenAIServer, stream: bool) -> None:
    before = samples(impatient)
    tries = len(backend.seen)
    status, error, _ = ask(impatient, "slow", stream=stream)
    assert (status, error["code"]) == (504, "backend_timeout")
    assert gained(impatient, before) == call("timeout", "slow") | batch("slow")
    # The deadline is over all tries: there was time for one.
    assert [body["model"] for _, body, _ in backend.seen[tries:] if body] == ["slow"]


def test_a_stream_that_stalls_is_given_up(impatient: Served, backend: OpenAIServer) -> None:
    before = samples(impatient)
    status, _, events = ask(impatient, "stalls", stream=True)
    assert status == 200
    assert json.loads(events[-1])["error"]["code"] == "backend_timeout"
    assert gained(impatient, before) == call("timeout", "stalls") | tokens("stalls", 0, 1) | batch("stalls") | times("stalls", each=False)
    assert "authorization" not in backend.seen[-1][2]


def test_a_stream_that_never_ends_is_given_up(impatient: Served, backend: OpenAIServer) -> None:
    before = samples(impatient)
    backend.left.clear()
    status, _, events = ask(impatient, "drips", stream=True)
    assert status == 200
    *chunks, last = map(json.loads, events)
    assert last["error"]["code"] == "backend_timeout"
    assert "did not end within 6 seconds" in last["error"]["message"]
    assert len(chunks) > 2, "each chunk came in time: the deadline is that of the whole"
    assert gained(impatient, before) == call("timeout", "drips") | tokens("drips", 0, len(chunks)) | batch("drips") | times("drips")
    wait_until(backend.left.is_set, "the backend sees that nobody listens")


def test_a_whole_answer_without_usage_counts_no_tokens(before_backend: Served) -> None:
    before = samples(before_backend)
    assert ask(before_backend, "no/usage")[0] == 200
    assert gained(before_backend, before) == call("success", "no/usage") | batch("no/usage")


def test_an_unknown_model_is_no_label(before_backend: Served) -> None:
    before = samples(before_backend)
    status, error, _ = ask(before_backend, "unheard-of")
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert gained(before_backend, before) == call("error", "_other")


@pytest.mark.parametrize("model", ["drips", "slow"])
def test_who_goes_away_is_counted_and_the_backend_told(before_backend: Served, backend: OpenAIServer, model: str) -> None:
    before = samples(before_backend)
    backend.left.clear()
    body = json.dumps({"model": model, "prompt": "x", "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", before_backend.port), timeout=60) as leaving:
        leaving.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        if model == "drips":
            assert leaving.recv(100).startswith(b"HTTP/1.1 200")
        else:
            wait_until(lambda: batch(model).items() <= gained(before_backend, before).items(), "the call began")
    wait_until(lambda: call("cancelled", model).items() <= gained(before_backend, before).items(), "the call is counted")
    if model == "drips":
        wait_until(backend.left.is_set, "the backend sees that nobody listens")


def test_a_backend_that_never_was(tmp_path: Path) -> None:
    with service(tmp_path, f"http://127.0.0.1:{unused_port()}/v1") as served:
        before = samples(served)
        status, error, _ = ask(served, "good")
        assert (status, error["type"], error["code"]) == (502, "server_error", "bad_backend")
        assert gained(served, before) == call("error", "_other")
        assert served.ask("GET", "/v1/models").status == 502
        assert served.ask("GET", "/health/ready").status == 200


def test_a_backend_that_goes_and_comes_back(tmp_path: Path) -> None:
    with openai_server() as first:
        port = first.server_address[1]
        with service(tmp_path, first.url) as served:
            assert ask(served, "good")[0] == 200
            first.end()
            before = samples(served)
            assert ask(served, "good")[0] == 502
            assert gained(served, before) == call("error", "good") | batch("good")
            with openai_server(port):
                assert ask(served, "good")[0] == 200


def test_a_listed_model_is_known_while_its_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MODELS_SECONDS", 0.0)

    async def ask(backend: remote.Remote, server: OpenAIServer) -> None:
        try:
            assert await backend.knows("good")
            asked = len(server.seen)
            assert not await backend.knows("unheard-of")
            assert len(server.seen) > asked, "the list is asked for anew once it is old"
            await asyncio.to_thread(server.end)
            assert await backend.knows("good")
            assert not await backend.knows("unheard-of")
            with pytest.raises(BadBackendError):
                await backend.models()
        finally:
            await backend.close()

    with openai_server() as server:
        asyncio.run(ask(remote.Remote(server.url, None, 30.0), server))
