from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from app.api.problems import ProblemError
from app.api.raw_bodies import read_bounded


class Client:
    """Sends chunks for as long as somebody reads them, and knows how many were taken."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)
        self.taken = 0

    async def receive(self) -> dict[str, Any]:
        if not self._chunks:
            return {"type": "http.disconnect"}
        self.taken += 1
        chunk = self._chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": chunk != b"last"}

    def request(self, length: str | None = None) -> Request:
        headers = [] if length is None else [(b"content-length", length.encode())]
        return Request({"type": "http", "method": "POST", "headers": headers}, self.receive)


def test_a_body_of_the_bound_is_read_whole() -> None:
    assert asyncio.run(read_bounded(Client(b"1234", b"56", b"last").request(), 10)) == b"123456last"


def test_no_more_is_read_than_proves_it_too_large() -> None:
    client = Client(*[b"12345"] * 100)
    with pytest.raises(ProblemError) as refused:
        asyncio.run(read_bounded(client.request(), 10))
    assert refused.value.status == 413
    assert client.taken == 3


@pytest.mark.parametrize("length", ["11", "9" * 40])
def test_what_is_announced_too_large_is_not_read(length: str) -> None:
    client = Client(b"last")
    with pytest.raises(ProblemError):
        asyncio.run(read_bounded(client.request(length), 10))
    assert client.taken == 0


@pytest.mark.parametrize("length", ["", "-1", "nonsense", "\xb2"])
def test_an_announcement_that_says_nothing_is_ignored(length: str) -> None:
    assert asyncio.run(read_bounded(Client(b"last").request(length), 10)) == b"last"


def test_a_client_that_goes_away_is_told_apart() -> None:
    with pytest.raises(ClientDisconnect):
        asyncio.run(read_bounded(Client(b"12").request(), 10))
