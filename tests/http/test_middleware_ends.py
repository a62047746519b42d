"""Requests whose response is never completed: each is counted once, says how it ended, and leaves nothing in progress."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from monitoring.http.exchange import MOST_CELLS
from monitoring.http.middleware import MetricsMiddleware
from monitoring.http.route_template import UNMATCHED
from tests.asgi_driver import Exchange, body, counted, drive, forget, in_progress, length, observed, scope, sending, start, summed
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.asgi_driver import App, Message

LABELS = ("GET", UNMATCHED)


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    forget()


def ended(status: str, first_bytes: int = 1) -> None:
    assert counted() == {(*LABELS, status): 1}
    assert observed("duration") == observed("received") == observed("sent") == {LABELS: 1}
    assert observed("first byte") == ({LABELS: first_bytes} if first_bytes else {})
    assert in_progress() == {}


@pytest.mark.parametrize(
    ("messages", "sent"),
    [((), 0), ((start(),), 0), ((start(200, length(5)), body(b"he", True)), 2), ((body(b"before any start"),), 0)],
    ids=["sends nothing", "starts only", "stops half way", "body without a start"],
)
@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
def test_an_application_that_does_not_complete_its_response(messages: tuple[Message, ...], sent: int, raises: bool) -> None:
    failure = RuntimeError("broken") if raises else None
    exchange = drive(MetricsMiddleware(sending(*messages, then=failure)))
    assert exchange.raised is failure
    assert exchange.sent == list(messages)
    ended("500")
    assert summed("sent") == ({LABELS: sent} if sent else {})


@pytest.mark.parametrize(
    ("messages", "first_bytes"), [((), 0), ((start(),), 1), ((start(), body(b"a", True)), 1)], ids=["before", "at", "after the start"]
)
def test_a_client_that_went_away(messages: tuple[Message, ...], first_bytes: int) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        while (await receive())["type"] != "http.disconnect":
            pass

    drive(MetricsMiddleware(app))
    ended("499", first_bytes)


def test_an_answer_to_one_who_left_is_a_disconnect() -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await send(start())
        await send(body(b"nobody reads this"))

    drive(MetricsMiddleware(app))
    ended("499")


def test_a_disconnect_after_the_response_changes_nothing() -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(body(b"whole"))
        while (await receive())["type"] != "http.disconnect":
            pass

    drive(MetricsMiddleware(app))
    ended("200")
    assert summed("received") == {}


def test_what_is_read_after_the_response_is_not_observed_twice() -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await send(start(204))
        await receive()

    drive(MetricsMiddleware(app), scope(), {"type": "http.request", "body": b"late", "more_body": False})
    assert observed("received") == {LABELS: 1}


async def busy(_scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0)
    await receive()
    await asyncio.sleep(0)
    await send(start())
    await asyncio.sleep(0)
    await send(body(b"a", True))
    await asyncio.sleep(0)
    await send(body(b"b"))
    await asyncio.sleep(0)


def test_cancelled_at_each_await_it_is_counted_once() -> None:
    async def cancelled_after(turns: int) -> Exchange:
        exchange = Exchange(requests=[{"type": "http.request", "body": b"", "more_body": False}])
        task = asyncio.get_running_loop().create_task(MetricsMiddleware(busy)(exchange.scope, exchange.receive, exchange.send))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
        exchange.raised = asyncio.CancelledError() if task.cancelled() else None
        return exchange

    statuses = []
    for turns in range(20):
        forget()
        exchange = asyncio.run(cancelled_after(turns))
        whole = body(b"b") in exchange.sent
        if turns:  # one that never ran was never a request
            assert counted() == {(*LABELS, "200" if whole else "499"): 1}
        assert in_progress() == {}
        assert observed("duration") == ({LABELS: 1} if turns else {})
        statuses.append((whole, exchange.raised is None))
        if exchange.raised is None:
            break
    assert {(False, False), (True, False), (True, True)} == set(statuses), "cancelled before the end, after the end, and not at all"


def test_closed_at_each_await_it_is_counted_once() -> None:
    for turns in range(1, 20):
        forget()
        exchange = Exchange(requests=[{"type": "http.request", "body": b"", "more_body": False}])
        coroutine = MetricsMiddleware(busy)(exchange.scope, exchange.receive, exchange.send)
        try:
            for _ in range(turns):
                coroutine.send(None)
        except StopIteration:
            return
        coroutine.close()
        whole = body(b"b") in exchange.sent
        assert counted() == {(*LABELS, "200" if whole else "499"): 1}
        assert in_progress() == {}
    pytest.fail("the application never ended")


@pytest.mark.parametrize(("failure", "status"), [(OSError("gone"), "500"), (asyncio.CancelledError(), "499"), (KeyboardInterrupt(), "500")])
def test_what_the_application_raises_by_itself(failure: BaseException, status: str) -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        await asyncio.sleep(0)
        raise failure

    with pytest.raises(type(failure)) as caught:
        asyncio.run(one(MetricsMiddleware(app)))
    assert caught.value is failure or isinstance(failure, KeyboardInterrupt | asyncio.CancelledError)
    assert counted() == {(*LABELS, status): 1}
    assert in_progress() == {}


async def one(app: App) -> None:
    exchange = Exchange()
    await app(exchange.scope, exchange.receive, exchange.send)


def test_a_failing_receive_is_the_applications_to_handle() -> None:
    async def broken() -> Message:
        await asyncio.sleep(0)
        raise ConnectionResetError

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(ConnectionResetError):
            await receive()
        await send(start())
        await send(body(b"all the same"))

    exchange = Exchange()
    asyncio.run(MetricsMiddleware(app)(exchange.scope, broken, exchange.send))
    ended("200")


def test_a_send_that_fails_once_is_a_disconnect_even_where_the_application_goes_on() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start())
        try:
            await send(body(b"a", True))
        except OSError:
            await send(body(b"b"))

    drive(MetricsMiddleware(app), fail_at=1, failure=BrokenPipeError())
    ended("499")


def build() -> FastAPI:
    app = FastAPI()
    app.add_middleware(MetricsMiddleware)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield b"12345"

    def plain() -> Iterator[bytes]:
        yield b"1"
        yield b"23"

    async def broken() -> AsyncIterator[bytes]:
        yield b"12345"
        raise RuntimeError("half way")

    def stream(make: Callable[[], Any]) -> Callable[[], StreamingResponse]:
        def route() -> StreamingResponse:
            return StreamingResponse(make())

        return route

    app.get("/async")(stream(pieces))
    app.get("/plain")(stream(plain))
    app.get("/broken")(stream(broken))

    @app.get("/raises")
    async def raises() -> None:
        raise RuntimeError("before the start")

    @app.post("/read")
    async def read(request: Request) -> int:
        return len(await request.body())

    return app


@pytest.mark.parametrize(
    ("path", "status", "sent", "raised"),
    [("/async", "200", 15, False), ("/plain", "200", 3, False), ("/broken", "500", 5, True), ("/raises", "500", 0, True)],
)
def test_streams_and_failures_of_fastapi(path: str, status: str, sent: int, raised: bool) -> None:
    exchange = drive(build(), scope(path=path))
    assert isinstance(exchange.raised, RuntimeError) is raised
    assert counted() == {("GET", path, status): 1}
    assert summed("sent") == ({("GET", path): sent} if sent else {})
    assert in_progress() == {}
    if path == "/raises":
        assert exchange.status == 500
        assert exchange.counted[0] == {("GET", path, "500"): 1}, "counted before the error handler answers"


def test_a_client_that_leaves_in_the_middle_of_its_own_body() -> None:
    exchange = drive(build(), scope("POST", "/read"), {"type": "http.request", "body": b"abc", "more_body": True})
    assert counted() == {("POST", "/read", "499"): 1}
    assert summed("received") == {("POST", "/read"): 3}
    assert exchange.raised is None or type(exchange.raised).__name__ == "ClientDisconnect"


@pytest.mark.parametrize("method", ["get", "FOO", "", "GET ", "PROPFIND", "\x00", "é" * 1000])
def test_a_word_that_is_no_method_of_the_list(method: str) -> None:
    drive(MetricsMiddleware(sending(start(), body())), scope(method))
    assert counted() == {("_other", UNMATCHED, "200"): 1}
    assert in_progress() == {}


def test_every_method_of_the_list_is_told_apart() -> None:
    app = MetricsMiddleware(sending(start(), body()))
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"]
    for method in methods:
        drive(app, scope(method))
    assert counted() == {(method, UNMATCHED, "200"): 1 for method in methods}


@pytest.mark.parametrize("status", [0, -1, 99, 1000, 10**30, "what", None, float("nan"), b"x", [200]], ids=repr)
def test_a_status_that_is_none(status: object) -> None:
    message = start(status)
    exchange = drive(MetricsMiddleware(sending(message, body(b"a"))))
    assert exchange.raised is None
    assert exchange.sent[0] is message
    assert exchange.counted[0] == {}
    assert counted() == {(*LABELS, "_other"): 1}


class Made:
    """A route that the application made as it went."""

    def __init__(self, number: int) -> None:
        self.path = f"/made/{number}"


async def hostile(middleware: MetricsMiddleware, requests: Iterator[dict[str, Any]], most: int) -> None:
    async def nothing(*_: Any) -> Message:
        return {"type": "http.request"}

    for request in requests:
        await middleware(request, nothing, nothing)
        assert len(middleware.answers.cells) <= most
        assert len(middleware.answers.methods) <= 10


def test_what_a_process_keeps_is_bounded() -> None:
    async def app(given: Any, _receive: Any, send: Any) -> None:
        await send(start(given["test.status"]))
        await send(body())

    middleware = MetricsMiddleware(app)
    words = (scope(f"WORD{number}", **{"test.status": number}) for number in range(3000))
    asyncio.run(hostile(middleware, words, 901))
    assert len(middleware.answers.cells) == 901, "each status of HTTP, and one for what is none"
    routes = (scope(route=Made(number), **{"test.status": 200}) for number in range(MOST_CELLS))
    asyncio.run(hostile(middleware, routes, MOST_CELLS))
    assert sum(counted().values()) == 3000 + MOST_CELLS


def test_counts_go_on_where_cells_had_to_be_made_anew() -> None:
    middleware = MetricsMiddleware(sending(start(), body(b"a")))
    drive(middleware)
    middleware.forget()
    drive(middleware)
    assert counted() == {(*LABELS, "200"): 2}
    assert observed("sent") == {LABELS: 2}


PROGRAM = """
import asyncio, json
from monitoring import multiprocess
multiprocess.install()
from prometheus_client import REGISTRY, generate_latest
from monitoring.http.middleware import MetricsMiddleware
from tests.asgi_driver import body, drive, sending, start
app = MetricsMiddleware(sending(start(), body(b"abc", True), body(b"de")))
for _ in range(7):
    drive(app)
drive(MetricsMiddleware(sending(then=RuntimeError())))
print(json.dumps([line for line in generate_latest().decode().splitlines() if line.startswith("neurectomy_http_")]))
"""


def test_the_same_in_the_files_of_a_worker(metrics_directory: Path, environment: dict[str, str]) -> None:
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_directory)
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = dict(line.rsplit(" ", 1) for line in json.loads(ran.stdout))
    assert {name: float(value) for name, value in lines.items() if "requests_total" in name} == {
        f'neurectomy_http_requests_total{{endpoint="{UNMATCHED}",method="GET",status="200"}}': 7,
        f'neurectomy_http_requests_total{{endpoint="{UNMATCHED}",method="GET",status="500"}}': 1,
    }
    for name in ("request_duration_seconds", "time_to_first_byte_seconds", "request_size_bytes", "response_size_bytes"):
        counts = [float(value) for key, value in lines.items() if key.startswith(f"neurectomy_http_{name}_count")]
        assert counts == [8], name
    assert [float(value) for key, value in lines.items() if "response_size_bytes_sum" in key] == [35]
    assert [float(value) for key, value in lines.items() if "in_progress" in key] == [0]
