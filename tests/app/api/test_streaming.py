from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from app.api.streaming import Streamed, in_thread
from tests.asgi_driver import scope


class Exchange:
    """One response and what was told when; the client leaves after `stays` messages, or never."""

    def __init__(self, *pieces: bytes | Exception, stays: int | None = None, length: int | None = None) -> None:
        self.pieces = list(pieces)
        self.stays = stays
        self.sent: list[dict[str, Any]] = []
        self.told: list[tuple[str, int]] = []
        self.closed = 0
        self.reached = asyncio.Event()
        self.response = Streamed(self.read, self.finish, self.close, media_type="text/plain", length=length)

    def read(self, size: int) -> bytes:
        assert size > 0
        assert threading.current_thread() is not threading.main_thread()
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece

    def finish(self, status: str) -> None:
        self.told.append((status, len(self.sent)))

    def close(self) -> None:
        self.closed += 1

    async def receive(self) -> dict[str, Any]:
        await self.reached.wait()
        if self.stays is None:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if len(self.sent) == (self.stays or 3):
            self.reached.set()
        for _ in range(3):
            await asyncio.sleep(0)

    def run(self) -> Exchange:
        asyncio.run(self.response(scope(), self.receive, self.send))
        assert self.closed == 1
        assert len(self.told) == 1
        return self

    @property
    def ended(self) -> bool:
        return self.sent[-1].get("more_body") is False

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


def test_a_success_is_told_before_the_last_message() -> None:
    exchange = Exchange(b"one", b"two", b"three", length=11).run()
    assert [message["body"] for message in exchange.sent[1:]] == [b"one", b"two", b"three"]
    assert [message["more_body"] for message in exchange.sent[1:]] == [True, True, False]
    assert exchange.told == [("success", 3)]
    assert exchange.headers[b"content-length"] == b"11"


def test_nothing_is_a_whole_response_too() -> None:
    exchange = Exchange().run()
    assert exchange.sent[1:] == [{"type": "http.response.body", "body": b"", "more_body": False}]
    assert exchange.told == [("success", 1)]
    assert b"content-length" not in exchange.headers


@pytest.mark.parametrize("error", [ValueError("damaged"), OSError("the disk")])
def test_what_is_found_too_late_leaves_no_clean_end(error: Exception) -> None:
    exchange = Exchange(b"one", b"two", error).run()
    assert not exchange.ended
    assert exchange.told == [("error", 2)]


def test_work_stops_when_the_client_has_gone() -> None:
    exchange = Exchange(*[b"piece"] * 1000, stays=4).run()
    assert not exchange.ended
    assert [status for status, _ in exchange.told] == ["cancelled"]
    assert len(exchange.pieces) > 900


def test_an_unexpected_failure_is_an_error_and_passes() -> None:
    exchange = Exchange(b"one", RuntimeError("bug"))
    with pytest.raises(RuntimeError, match="bug"):
        exchange.run()
    assert (exchange.told, exchange.closed) == ([("error", 1)], 1)


def test_a_cancellation_waits_for_the_thread() -> None:
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait()
        done.set()

    async def cancelled() -> None:
        task = asyncio.ensure_future(in_thread(work))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done.is_set()

    asyncio.run(cancelled())


def test_a_cancelled_response_is_told_as_cancelled() -> None:
    exchange = Exchange(*[b"piece"] * 1_000_000)

    async def cancelled() -> None:
        task = asyncio.ensure_future(exchange.response(scope(), exchange.receive, exchange.send))
        await exchange.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not exchange.ended
    assert ([status for status, _ in exchange.told], exchange.closed) == (["cancelled"], 1)
