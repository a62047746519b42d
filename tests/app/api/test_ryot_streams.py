"""Streams and chats of the stand-in: through OpenAI's clients on real servers, and message by message."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest

from app.integrations.ryot.stand_in import MODEL
from tests import asgi_driver as asgi
from tests.app.api.test_ryot import client
from tests.app.keyed_service import JSON
from tests.app.scraped import call, counts, gained, samples
from tests.conftest import data_directory
from tests.processes import wait_until

if TYPE_CHECKING:
    from tests.gunicorn_service import Gunicorn
    from tests.server_process import Served

__all__ = ["client"]

LONG = {"model": MODEL, "prompt": ["The"] * 128, "max_tokens": 500}
CHAT: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "What is a worker?"}]}]


def test_a_stream_says_what_a_whole_answer_says(client: openai.OpenAI, served: Served) -> None:
    whole = client.completions.create(model=MODEL, prompt=["A", "The"], max_tokens=30, seed=4)
    before = samples(served)
    stream = client.completions.create(
        model=MODEL, prompt=["A", "The"], max_tokens=30, seed=4, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    texts, reasons = ["", ""], ["", ""]
    for chunk in chunks:
        (choice,) = chunk.choices
        assert (chunk.id, chunk.object, chunk.usage) == (last.id, "text_completion", None)
        texts[choice.index] += choice.text
        reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [choice.text for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert (last.choices, last.usage) == ([], whole.usage)
    assert whole.usage is not None
    assert gained(served, before) == counts(2, whole.usage.completion_tokens, batch=2)


def test_no_usage_is_told_that_was_not_asked_for(served: Served) -> None:
    body = json.dumps({"model": MODEL, "prompt": "A", "max_tokens": 5, "stream": True}).encode()
    answer = served.ask("POST", "/v1/completions", body, JSON)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert answer.body.endswith(b"\n\ndata: [DONE]\n\n")
    assert b"usage" not in answer.body
    assert answer.body.count(b"data: {") == 6


def test_held_back_tokens_are_counted_all_the_same(client: openai.OpenAI, served: Served) -> None:
    whole = client.completions.create(model=MODEL, prompt="The", max_tokens=30, seed=5)
    before = samples(served)
    stop = whole.choices[0].text + "and more"
    pieces = list(client.completions.create(model=MODEL, prompt="The", max_tokens=30, seed=5, stop=stop, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    assert whole.usage is not None
    assert gained(served, before)[f'tokens_generated_total{{model="{MODEL}"}}'] == whole.usage.completion_tokens


def test_a_chat_whole_and_streamed(client: openai.OpenAI, served: Served) -> None:
    before = samples(served)
    done = client.chat.completions.create(model=MODEL, messages=CHAT, max_completion_tokens=20, seed=2)
    (choice,) = done.choices
    assert (done.object, choice.message.role, choice.finish_reason in {"stop", "length"}) == ("chat.completion", "assistant", True)
    assert done.usage is not None
    assert done.usage.prompt_tokens > 5
    assert gained(served, before) == counts(done.usage.prompt_tokens, done.usage.completion_tokens)
    before = samples(served)
    chunks = list(client.chat.completions.create(model=MODEL, messages=CHAT, max_completion_tokens=20, seed=2, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == choice.message.content
    assert chunks[-1].choices[0].finish_reason == choice.finish_reason
    assert gained(served, before) == counts(done.usage.prompt_tokens, done.usage.completion_tokens)


def test_the_asynchronous_client(served: Served) -> None:
    async def talk() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{served.port}/v1", api_key="none", max_retries=0) as client:
            done, stream = await asyncio.gather(
                client.chat.completions.create(model=MODEL, messages=CHAT, seed=3),
                client.chat.completions.create(model=MODEL, messages=CHAT, seed=3, stream=True),
            )
            return done.choices[0].message.content or "", "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    whole, streamed = asyncio.run(talk())
    assert whole == streamed != ""


def test_a_picture_is_refused(client: openai.OpenAI) -> None:
    picture: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    with pytest.raises(openai.BadRequestError, match="reads text only") as refused:
        client.chat.completions.create(model=MODEL, messages=picture)
    assert refused.value.param == "messages"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_is_counted_as_cancelled(served: Served, stream: bool) -> None:
    before = samples(served)
    body = json.dumps(LONG | {"stream": stream}).encode()
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as leaving:
        leaving.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        if stream:
            assert leaving.recv(100).startswith(b"HTTP/1.1 200")
        else:
            batch = f'neurectomy_ryot_batch_size_count{{model="{MODEL}"}}'
            wait_until(lambda: samples(served).get(batch, 0) > before.get(batch, 0), "the call began")
    name = f'requests_total{{model="{MODEL}",status="cancelled"}}'
    wait_until(lambda: gained(served, before).get(name) == 1, "the call is counted")
    after = gained(served, before)
    assert after.items() >= call("cancelled").items()
    assert not any("success" in each or "error" in each for each in after)
    tokens = f'neurectomy_ryot_tokens_generated_total{{model="{MODEL}"}}'
    so_far = samples(served)[tokens]
    assert so_far - before.get(tokens, 0) > 0
    served.ask("GET", "/health/live")
    assert samples(served)[tokens] == so_far
    assert "Traceback" not in served.log.read_text()


def test_other_requests_are_answered_beside_long_generation(served: Served) -> None:
    body = json.dumps(LONG).encode()
    done = threading.Event()

    def generate() -> None:
        assert served.ask("POST", "/v1/completions", body, JSON).status == 200
        done.set()

    worker = threading.Thread(target=generate)
    before = samples(served)
    worker.start()
    tokens = f'neurectomy_ryot_tokens_generated_total{{model="{MODEL}"}}'
    seen = set()
    while not done.is_set() and worker.is_alive():
        seen.add(samples(served).get(tokens, 0) - before.get(tokens, 0))
    worker.join()
    assert done.is_set()
    assert len(seen - {0}) > 1, "nobody else was answered while tokens were generated"


@pytest.mark.parametrize("worker_class", ["uvicorn", "asgi"])
def test_every_worker_class_with_preload(gunicorn: Gunicorn, worker_class: str) -> None:
    gunicorn.start(WORKER_CLASS=worker_class, PRELOAD="1")
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gunicorn.port}/v1", api_key="none", max_retries=0, timeout=60) as client:
        whole = client.completions.create(model=MODEL, prompt="A", seed=1).choices[0].text
        chunks = list(client.completions.create(model=MODEL, prompt="A", seed=1, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole


class Noting(asgi.Exchange):
    """Notes the tokens and the outcomes that are counted when each message is forwarded."""

    async def send(self, message: Any) -> None:
        from monitoring import metrics

        self.noted = [*getattr(self, "noted", []), tuple(map(_total, counted(metrics)))]
        await super().send(message)


def counted(metrics: Any) -> tuple[Any, ...]:
    return metrics.ryot_tokens_generated, metrics.ryot_requests, metrics.tokens_generated


def _total(family: Any) -> float:
    (metric,) = family.collect()
    return sum(sample.value for sample in metric.samples if sample.name.endswith("_total"))


@pytest.mark.parametrize("stream", [False, True])
def test_everything_is_counted_and_billed_before_it_is_sent(stream: bool, tmp_path: Path) -> None:
    from fastapi import FastAPI

    from app.api import auth, ryot
    from app.integrations.ryot.stand_in import StandIn
    from app.store.database import Database
    from app.store.database_url import DatabaseLocation
    from monitoring import metrics

    app = FastAPI()
    database = app.state.database = Database(DatabaseLocation.of_file(Path(data_directory(tmp_path / "data")) / "neurectomy.db"))
    app.state.guard = auth.Guard(database, required=False, admin_key=None)
    auth.include(app, ryot.router, "user", openai=True)
    app.state.ryot = StandIn(60)
    body = json.dumps({"model": MODEL, "prompt": "The", "max_tokens": 9, "seed": 1, "stream": stream}).encode()
    exchange = Noting(asgi.scope("POST", "/v1/completions"), [{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        if exchange.requests:
            return exchange.requests.pop(0)
        return await asyncio.Event().wait()

    async def call() -> None:
        await app(exchange.scope, receive, exchange.send)
        await database.close()

    before = tuple(map(_total, counted(metrics)))
    asyncio.run(call())
    notes = [tuple(now - then for now, then in zip(note, before, strict=True)) for note in exchange.noted]
    if stream:
        # The start comes with the first chunk there; then a token a chunk, why it ended, and the end.
        assert notes == [(0, 0, 0), *((number, 0, 0) for number in range(1, 10)), (9, 0, 0), (9, 1, 9)]
        assert exchange.sent[-1]["body"] == b"data: [DONE]\n\n"
        assert exchange.sent[-1]["more_body"] is False
    else:
        assert notes == [(9, 1, 9), (9, 1, 9)]


def test_a_client_that_is_gone_before_the_start_is_counted() -> None:
    from app.api.call_metrics import Tally
    from app.api.disconnects import Client, EventStream
    from monitoring import metrics

    tally = Tally()

    async def events() -> Any:
        yield b"never", True

    async def close() -> None:
        tally.end("cancelled")

    before = _total(metrics.ryot_requests)

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def stuck(_message: Any) -> None:
        await asyncio.Event().wait()

    async def answer() -> None:
        await EventStream(Client(gone), events(), close)(asgi.scope(), gone, stuck)

    asyncio.run(answer())
    assert _total(metrics.ryot_requests) == before + 1
