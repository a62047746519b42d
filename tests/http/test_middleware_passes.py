"""What the middleware never does: change a response, an exception or the context, touch other protocols, or count twice."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from decimal import Decimal
from fractions import Fraction
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from monitoring.http.middleware import MetricsMiddleware
from monitoring.http.route_template import UNMATCHED
from tests.asgi_driver import Exchange, body, counted, drive, forget, in_progress, length, observed, scope, sending, start

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from tests.asgi_driver import App, Message

HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"content-length", b"Content-Length", b"x-a", b"transfer-encoding"]),
        st.sampled_from([b"0", b"3", b"7", b"chunked", b"", b"\xff"]),
    ),
    max_size=3,
)
ODD_HEADERS = st.lists(
    st.tuples(st.sampled_from([b"content-length", "content-length"]), st.sampled_from([b"0", b"00", "0", 0, memoryview(b"0"), b"3"])).map(
        list
    ),
    max_size=3,
)
BODIES = st.binary(max_size=5).flatmap(lambda content: st.sampled_from([content, bytearray(content), memoryview(content), None, "text"]))
OPEN = Path(__file__).open("rb")  # noqa: SIM115 - for as long as the tests run
MESSAGES = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("http.response.start")},
        optional={
            "status": st.one_of(
                st.integers(), st.sampled_from([100, 200, 204, 304, 307, 500, None, "200", HTTPStatus.NO_CONTENT, 200.0, True])
            ),
            "headers": st.one_of(
                HEADERS, HEADERS.map(tuple), st.sampled_from([None, [b"malformed"], [(b"a", b"b", b"c")], [(1, 2)], [3]]), ODD_HEADERS
            ),
            "trailers": st.booleans(),
        },
    ),
    st.fixed_dictionaries({"type": st.just("http.response.body")}, optional={"body": BODIES, "more_body": st.booleans()}),
    st.fixed_dictionaries(
        {"type": st.just("http.response.zerocopysend")},
        optional={
            "count": st.one_of(st.integers(0, 9), st.sampled_from([-1, 5.0, Fraction(3), Decimal("nan"), "3", b"3", [3], True])),
            "file": st.sampled_from([None, "name", OPEN]),
            "offset": st.sampled_from([None, 1, 10.0, "1"]),
            "more_body": st.booleans(),
        },
    ),
    st.fixed_dictionaries({"type": st.just("http.response.pathsend")}, optional={"path": st.sampled_from(["/no/file", None, b"\0"])}),
    st.fixed_dictionaries({"type": st.just("http.response.trailers")}, optional={"more_trailers": st.booleans()}),
    st.fixed_dictionaries({"type": st.sampled_from(["http.response.push", "http.response.debug", "no.such.type"])}),
)
TES = st.sampled_from([b"trailers", b"gzip, Trailers", "trailers", None])
FAILURES = st.sampled_from([None, RuntimeError("x"), OSError(5, "x"), asyncio.CancelledError("why")])


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    forget()


@settings(max_examples=500, deadline=None)
@given(
    st.lists(MESSAGES, max_size=6),
    FAILURES,
    FAILURES,
    st.integers(0, 6),
    st.sampled_from(["GET", "HEAD", "POST", "x", b"GET", None]),
    st.booleans(),
    TES,
)
def test_whatever_an_application_sends_passes_as_it_is(
    messages: list[Message], then: BaseException | None, failure: BaseException | None, fail_at: int, method: Any, trailers: bool, te: Any
) -> None:
    forget()
    copies = [dict(message) for message in messages]
    extensions = {"http.response.trailers": {}} if trailers else {}

    def run(wrap: Callable[[App], App]) -> Exchange:
        request = scope(method, "/raw", [(b"te", te)], extensions=extensions)
        return drive(wrap(sending(*messages, then=then)), request, fail_at=fail_at, failure=failure)

    bare = run(lambda app: app)
    ours = run(MetricsMiddleware)
    assert len(ours.sent) == len(bare.sent)
    assert all(mine is theirs for mine, theirs in zip(ours.sent, bare.sent, strict=True)), "the very objects"
    assert ours.raised is bare.raised
    assert [dict(message) for message in messages] == copies, "and nothing was written to them"
    assert sum(counted().values()) == 1
    assert sum(observed("duration").values()) == sum(observed("received").values()) == sum(observed("sent").values()) == 1
    assert sum(observed("first byte").values()) <= 1
    assert in_progress() == {}
    assert all(sum(at.values()) <= 1 for at in ours.counted)


def test_headers_that_can_be_read_once_reach_the_server_whole() -> None:
    pairs = [(b"x", b"y"), length(5)]
    exchange = drive(MetricsMiddleware(sending({**start(), "headers": iter(pairs)}, body(b"hel", True), body(b"lo", True), body())))
    assert list(exchange.sent[0]["headers"]) == pairs
    assert exchange.counted[1:3] == [{}, {("GET", UNMATCHED, "200"): 1}]


def test_requests_pass_as_they_are() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request"},
        {"type": "http.request", "body": None, "more_body": False},
        {"type": "http.disconnect"},
    ]
    seen = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        seen.extend([await receive() for _ in messages])

    drive(MetricsMiddleware(app), scope(), *messages)
    assert all(mine is theirs for mine, theirs in zip(seen, messages, strict=True))


def test_the_scope_reaches_the_application_itself() -> None:
    given_scope = scope()

    async def app(seen: Any, _receive: Any, send: Any) -> None:
        assert seen is given_scope
        seen["method"] = "REWRITTEN"
        seen["test"] = "set inside"
        await send(start(204))

    assert drive(MetricsMiddleware(app), given_scope).raised is None
    assert given_scope["test"] == "set inside"
    assert counted() == {("GET", UNMATCHED, "204"): 1}
    assert in_progress() == {}


outer: ContextVar[str] = ContextVar("outer")
inner: ContextVar[str] = ContextVar("inner", default="unset")


def test_context_variables_flow_both_ways() -> None:
    seen = []

    async def receive() -> Message:
        seen.append(inner.get())
        outer.set("set by the server while it received")
        return {"type": "http.request"}

    async def send(_: Message) -> None:
        seen.append(inner.get())

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        assert outer.get() == "set before"
        inner.set("one")
        await receive()
        assert outer.get() == "set by the server while it received"
        inner.set("two")
        await send(start())
        inner.set("three")
        await send(body())

    async def run() -> None:
        outer.set("set before")
        await MetricsMiddleware(app)(scope(), receive, send)
        seen.append(inner.get())

    asyncio.run(run())
    assert seen == ["one", "two", "three", "three"]


@pytest.mark.parametrize("kind", ["websocket", "lifespan", "something.new"])
def test_other_protocols_are_untouched(kind: str) -> None:
    given_scope: dict[str, Any] = {"type": kind}
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        await asyncio.sleep(0)
        seen.extend(arguments)

    async def receive() -> Message:
        return {}

    async def send(_: Message) -> None: ...

    asyncio.run(MetricsMiddleware(app)(given_scope, receive, send))
    assert seen[0] is given_scope
    assert given_scope == {"type": kind}
    assert seen[1:] == [receive, send]
    assert counted() == in_progress() == {}


def answer(text: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_: Request) -> Response:
        return PlainTextResponse(text)

    return endpoint


def test_one_inside_another_counts_once() -> None:
    sub = Starlette(routes=[Route("/x/{id}", answer("sub"))], middleware=[Middleware(MetricsMiddleware)])
    api = FastAPI()
    api.add_middleware(MetricsMiddleware)
    api.get("/y/{id}")(lambda: "api")
    app = Starlette(routes=[Mount("/sub", sub), Mount("/api", api)], middleware=[Middleware(MetricsMiddleware)] * 2)
    twice = MetricsMiddleware(MetricsMiddleware(app))
    assert drive(twice, scope(path="/sub/x/1")).content == b"sub"
    assert drive(twice, scope(path="/api/y/1")).content == b'"api"'
    assert counted() == {("GET", "/sub/x/{id}", "200"): 1, ("GET", "/api/y/{id}", "200"): 1}
    assert sum(observed("duration").values()) == 2
    assert in_progress() == {}


def test_a_second_application_beside_the_first_is_counted_too() -> None:
    for path in ("/one", "/two"):
        app = FastAPI()
        app.add_middleware(MetricsMiddleware)
        app.get(path)(lambda: None)
        drive(app, scope(path=path))
    assert counted() == {("GET", "/one", "200"): 1, ("GET", "/two", "200"): 1}


@pytest.mark.parametrize("outside", [True, False])
def test_beside_the_middlewares_that_everybody_has(outside: bool) -> None:
    class Passing(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            response.headers["x-passed"] = "1"
            return response

    others = [Middleware(GZipMiddleware, minimum_size=10), Middleware(Passing)]
    ours = [Middleware(MetricsMiddleware)]

    async def echo(request: Request) -> Response:
        return PlainTextResponse(await request.body() * 100)

    app = Starlette(routes=[Route("/items/{id}", echo, methods=["POST"])], middleware=ours + others if outside else others + ours)
    request = scope("POST", "/items/7", [(b"accept-encoding", b"gzip")])
    exchange = drive(app, request, {"type": "http.request", "body": b"abc", "more_body": False})
    assert (b"x-passed", b"1") in exchange.sent[0]["headers"]
    assert (b"content-encoding", b"gzip") in exchange.sent[0]["headers"]
    assert counted() == {("POST", "/items/{id}", "200"): 1}
    assert exchange.counted[-1] == counted()
    assert in_progress() == {}


def test_many_requests_at_once_do_not_mix() -> None:
    async def app(given_scope: Any, receive: Any, send: Any) -> None:
        number = int(given_scope["path"][1:])
        for _ in range(number % 7):
            await asyncio.sleep(0)
        await receive()
        await send(start(200 + number % 3))
        for _ in range(number % 5):
            await send(body(b"x" * number, more=True))
        await send(body())

    async def run() -> list[Exchange]:
        middleware = MetricsMiddleware(app)
        return await asyncio.gather(
            *(Exchange(scope(path=f"/{number}"), [{"type": "http.request"}]).through(middleware) for number in range(100))
        )

    exchanges = asyncio.run(run())
    assert max(sum(at.values()) for exchange in exchanges for at in exchange.progress) > 50
    assert counted() == {("GET", UNMATCHED, str(200 + rest)): len(range(rest, 100, 3)) for rest in range(3)}
    assert in_progress() == {}
