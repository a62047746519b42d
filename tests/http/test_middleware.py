"""When a request is counted: before the message with which a client can know that its response is complete, and never again."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from monitoring import metrics
from monitoring.http.middleware import MetricsMiddleware
from monitoring.http.route_template import REDIRECT, UNMATCHED
from tests.asgi_driver import Exchange, body, counted, drive, forget, in_progress, length, observed, scope, sending, start, summed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.asgi_driver import Message

HTTP_SECONDS = [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0]
TRAILERS = {"extensions": {"http.response.trailers": {}}}
TE = ((b"te", b"trailers"),)


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    forget()


class End(NamedTuple):
    """A response, and the number of the message that completes it."""

    messages: list[Message]
    completing: int
    sent: int = 0
    method: str = "GET"
    scope: dict[str, Any] = {}  # noqa: RUF012 - never changed


def trailer(more: bool = False) -> Message:
    return {"type": "http.response.trailers", "headers": [(b"x", b"y")], "more_trailers": more}


ENDS = {
    "HEAD": End([start(200, length(5)), body()], 0, method="HEAD"),
    "HEAD that streams nothing": End([start(200), body(more=True), body()], 0, method="HEAD"),
    "HEAD, failed": End([start(500), body()], 0, method="HEAD"),
    "101": End([start(101)], 0),
    "103": End([start(103), body()], 0),
    "204": End([start(204), body()], 0),
    "204 without a body message": End([start(204)], 0),
    "304": End([start(304, (b"etag", b"x")), body()], 0),
    "content-length 0": End([start(200, (b"x", b"y"), length(0)), body()], 0),
    "content-length 0, redirect": End([start(307, length(0), (b"location", b"/")), body()], 0),
    "content-length 0 in capitals": End([start(200, (b"x", b"y"), (b"Content-Length", b"0")), body()], 0),
    "content-length 0 as a list": End([{**start(200), "headers": [(b"x", b"y"), [b"content-length", b"0"]]}, body()], 0),
    "content-length 0 in a tuple": End([{**start(200), "headers": ((b"x", b"y"), length(0))}, body()], 0),
    "one message": End([start(200, length(5)), body(b"hello")], 1, 5),
    "one message without a length": End([start(), body(b"hello")], 1, 5),
    "one message of two keys": End([start(), {"type": "http.response.body", "body": b"hello"}], 1, 5),
    "an empty message": End([start(), body()], 1),
    "a message without a body": End([start(), {"type": "http.response.body"}], 1),
    "a message whose body is None": End([start(), body(None)], 1),
    "a start without headers": End([{"type": "http.response.start", "status": 200}, body(b"a")], 1, 1),
    "the chunk that reaches content-length": End([start(200, length(5)), body(b"he", True), body(b"llo", True), body()], 2, 5),
    "the only chunk reaches content-length": End([start(200, length(5)), body(b"hello", True), body()], 1, 5),
    "a chunk that passes content-length": End([start(200, length(3)), body(b"hello", True), body()], 1, 5),
    "Content-Length in capitals": End([start(200, (b"Content-Length", b"5")), body(b"hello", True), body()], 1, 5),
    "chunks": End([start(), body(b"he", True), body(b"llo", True), body(b"!")], 3, 6),
    "an empty last message": End([start(), body(b"he", True), body(b"", True), body()], 3, 2),
    "an unreadable content-length": End([start(200, (b"content-length", b"five")), body(b"hello", True), body()], 2, 5),
    "a negative content-length": End([start(200, (b"content-length", b"-1")), body(b"hello", True), body()], 2, 5),
    "a huge content-length": End([start(200, (b"content-length", b"9" * 5000)), body(b"hello", True), body()], 2, 5),
    "a bytearray": End([start(), body(bytearray(b"hello"))], 1, 5),
    "memoryviews": End([start(), body(memoryview(b"hello").cast("B"), True), body(memoryview(bytes(8)).cast("d"))], 2, 13),
    "trailers": End([start(200, trailers=True), body(b"hi"), trailer(True), trailer()], 3, 2, scope={**TRAILERS, "headers": TE}),
    "trailers after chunks": End(
        [start(200, trailers=True), body(b"hi", True), body(), trailer()], 3, 2, scope={**TRAILERS, "headers": TE}
    ),
    "trailers that the client did not ask for": End([start(200, trailers=True), body(b"hi"), trailer()], 1, 2, scope=TRAILERS),
    "trailers that the server does not know": End([start(200, trailers=True), body(b"hi"), trailer()], 1, 2, scope={"headers": TE}),
    "trailers after a length": End([start(200, length(2), trailers=True), body(b"hi"), trailer()], 1, 2, scope={**TRAILERS, "headers": TE}),
    "push before the end": End([start(), {"type": "http.response.push", "path": "/x", "headers": []}, body(b"a")], 2, 1),
    "early hints before the start": End([{"type": "http.response.early_hint", "links": []}, start(), body(b"a")], 2, 1),
    "debug after the start": End([start(), {"type": "http.response.debug", "info": {}}, body(b"a")], 2, 1),
}


def expected(end: End) -> dict[tuple[str, str, str], float]:
    (began,) = [message for message in end.messages if message["type"] == "http.response.start"]
    return {(end.method, endpoint(end), str(began["status"])): 1}


def endpoint(end: End) -> str:
    return REDIRECT if any(message.get("status") == 307 for message in end.messages) else UNMATCHED


def driven(end: End, then: BaseException | None = None, **more: Any) -> Exchange:
    app = MetricsMiddleware(sending(*end.messages, then=then))
    return drive(app, scope(end.method, "/some/raw/path", end.scope.get("headers", ()), extensions=end.scope.get("extensions", {})), **more)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_counted_before_the_completing_message_and_not_sooner(end: End) -> None:
    exchange = driven(end)
    assert exchange.raised is None
    assert exchange.sent == end.messages
    assert exchange.counted == [{}] * end.completing + [expected(end)] * (len(end.messages) - end.completing)
    assert exchange.progress == [{(end.method,): 1}] * end.completing + [{}] * (len(end.messages) - end.completing)
    labels = (end.method, endpoint(end))
    for which in ("duration", "first byte", "received", "sent"):
        assert observed(which) == {labels: 1}, which
    assert summed("sent") == ({labels: end.sent} if end.sent else {})
    assert in_progress() == {}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("failure", [OSError("gone"), RuntimeError("broken"), asyncio.CancelledError()], ids=repr)
def test_a_failure_from_the_completing_message_on_changes_no_count(end: End, failure: BaseException) -> None:
    for number in range(end.completing, len(end.messages)):
        forget()
        exchange = driven(end, fail_at=number, failure=failure)
        assert exchange.raised is failure
        assert counted() == expected(end)
        assert observed("duration") == {(end.method, endpoint(end)): 1}
        assert in_progress() == {}
    forget()
    exchange = driven(end, then=failure)
    assert exchange.raised is failure
    assert counted() == expected(end)
    assert in_progress() == {}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize(
    ("failure", "status"), [(OSError("gone"), "499"), (RuntimeError("broken"), "500"), (asyncio.CancelledError(), "499")], ids=repr
)
def test_a_failure_before_the_completing_message_is_what_counts(end: End, failure: BaseException, status: str) -> None:
    for number in range(end.completing):
        forget()
        exchange = driven(end, fail_at=number, failure=failure)
        assert exchange.raised is failure
        assert exchange.counted == [{}] * (number + 1)
        assert counted() == {(end.method, UNMATCHED, status): 1}
        assert observed("duration") == {(end.method, endpoint(end)): 1}
        assert observed("received") == observed("sent") == {(end.method, endpoint(end)): 1}
        assert in_progress() == {}


@pytest.mark.parametrize("known", [True, False], ids=["with a length", "without a length"])
def test_files_that_the_server_sends_by_itself(known: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1234)
    headers = [length(1234)] if known else []
    end = End([start(200, *headers), {"type": "http.response.pathsend", "path": str(path)}], 1, 1234)
    test_counted_before_the_completing_message_and_not_sooner(end)
    with path.open("rb") as file:
        zerocopy = {"type": "http.response.zerocopysend", "file": file}
        ends = [
            End([start(200, *headers), zerocopy], 1, 1234),
            End([start(200, *headers), {**zerocopy, "offset": 34}], 1, 1200),
            End([start(200, *headers), {**zerocopy, "count": 1000, "more_body": True}, {**zerocopy, "count": 234}], 2, 1234),
            End([start(), {**zerocopy, "more_body": True}, body()], 2, 1234),
        ]
        if known:
            ends.append(End([start(200, *headers), {**zerocopy, "more_body": True}, body()], 1, 1234))
        for end in ends:
            forget()
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            test_counted_before_the_completing_message_and_not_sooner(end)


def test_a_file_that_cannot_be_measured_is_still_forwarded() -> None:
    for message in (
        {"type": "http.response.pathsend", "path": "/no/such/file"},
        {"type": "http.response.zerocopysend", "file": object()},
        {"type": "http.response.zerocopysend"},
    ):
        forget()
        test_counted_before_the_completing_message_and_not_sooner(End([start(), message], 1))


def test_real_bytes_are_counted_both_ways() -> None:
    async def echo(_scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        while (message := await receive())["more_body"]:
            await send(body(message["body"] * 2, more=True))
        await send(body(b"end"))

    pieces = [b"a" * 70_000, b"", b"b" * 30_001]
    requests = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    drive(MetricsMiddleware(echo), scope("POST"), *requests, {"type": "http.request", "more_body": False})
    assert summed("received") == {("POST", UNMATCHED): 100_001}
    assert summed("sent") == {("POST", UNMATCHED): 200_005}
    assert bucket_of(metrics.http_request_size_bytes, "POST") == "1e+06"
    assert bucket_of(metrics.http_response_size_bytes, "POST") == "1e+06"


@pytest.mark.parametrize(
    ("size", "bound"), [(0, "100.0"), (100, "100.0"), (101, "1000.0"), (10_000_000, "1e+07"), (100_000_000, "1e+08"), (100_000_001, "+Inf")]
)
def test_a_size_goes_to_the_bucket_that_the_client_library_would_choose(size: int, bound: str) -> None:
    message = {"type": "http.response.zerocopysend", "file": None, "count": size}
    drive(MetricsMiddleware(sending(start(), message)))
    assert bucket_of(metrics.http_response_size_bytes, "GET") == bound
    assert summed("sent") == ({("GET", UNMATCHED): size} if size else {})


def bucket_of(histogram: Any, method: str) -> str:
    """The smallest bucket that holds the only observation."""
    (metric,) = histogram.collect()
    return str(next(each.labels["le"] for each in metric.samples if each.labels["method"] == method and each.value == 1))


def test_durations_to_the_first_and_to_the_last_byte() -> None:
    async def slow(_scope: Any, _receive: Any, send: Any) -> None:
        time.sleep(0.06)  # noqa: ASYNC251 - at least this long, whatever else the loop does
        await send(start())
        await send(body(b"a", more=True))
        assert observed("first byte") == {("GET", UNMATCHED): 1}, "a stream's first byte shows before its end"
        assert observed("duration") == {}
        time.sleep(0.06)  # noqa: ASYNC251
        await send(body(b"b"))

    began = time.perf_counter()
    assert drive(MetricsMiddleware(slow)).raised is None
    whole = time.perf_counter() - began
    first, last = summed("first byte")[("GET", UNMATCHED)], summed("duration")[("GET", UNMATCHED)]
    assert 0.06 <= first <= last - 0.06
    assert last <= whole
    assert observed("first byte") == observed("duration") == {("GET", UNMATCHED): 1}
    assert bucket_of(metrics.http_request_duration_seconds, "GET") not in {"0.01", "0.05", "0.1"}


def test_each_duration_goes_to_a_bucket_of_its_own() -> None:
    async def slow(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start())
        time.sleep(0.6)  # noqa: ASYNC251 - two buckets on
        await send(body(b"all"))

    drive(MetricsMiddleware(slow))
    bounds = [*HTTP_SECONDS, float("inf")]
    for which, family in (("first byte", metrics.http_time_to_first_byte_seconds), ("duration", metrics.http_request_duration_seconds)):
        seconds = summed(which)[("GET", UNMATCHED)]
        assert float(bucket_of(family, "GET")) == next(bound for bound in bounds if seconds <= bound), which


def test_a_fast_answer_is_in_the_first_bucket_of_both() -> None:
    app = MetricsMiddleware(sending(start(), body(b"a")))
    for _ in range(20):
        drive(app)
    for family in (metrics.http_request_duration_seconds, metrics.http_time_to_first_byte_seconds):
        (metric,) = family.collect()
        assert any(each.value for each in metric.samples if each.labels.get("le") == "0.01")
        assert [each.value for each in metric.samples if each.labels.get("le") == "+Inf"] == [20]
