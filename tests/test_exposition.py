from __future__ import annotations

import asyncio
import gzip
import threading
from typing import TYPE_CHECKING, Any

import pytest

from monitoring.exposition import Exposition, SharedMerge, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = b"# HELP a_total Help.\n# TYPE a_total counter\na_total 1.0\n"


def render(openmetrics: bool) -> bytes:
    return TEXT.replace(b"a_total c", b"a c") + b"# EOF\n" if openmetrics else TEXT


async def ask(app: Callable[..., Any], method: str = "GET", query: bytes = b"", **headers: str) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": method, "path": "/metrics", "query_string": query, "headers": named}, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_formats_and_their_content_types() -> None:
    app = Exposition(render)
    status, headers, body = asyncio.run(ask(app))
    assert (status, headers[b"content-type"], body) == (200, b"text/plain; version=0.0.4; charset=utf-8", TEXT)
    assert headers[b"content-length"] == str(len(TEXT)).encode()
    _, headers, body = asyncio.run(ask(app, accept="application/openmetrics-text"))
    assert headers[b"content-type"] == b"application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert body == render(openmetrics=True)


def test_gzip_where_accepted() -> None:
    _, headers, body = asyncio.run(ask(Exposition(render), accept_encoding="gzip"))
    assert headers[b"content-encoding"] == b"gzip"
    assert headers[b"content-length"] == str(len(body)).encode()
    assert gzip.decompress(body) == TEXT


def test_head_has_the_headers_of_get_and_no_body() -> None:
    app = Exposition(render)
    status, headers, body = asyncio.run(ask(app, "HEAD"))
    assert (status, body) == (200, b"")
    assert headers == asyncio.run(ask(app))[1]


def test_other_methods_are_not_allowed() -> None:
    status, headers, _ = asyncio.run(ask(Exposition(render), "POST"))
    assert (status, headers[b"allow"]) == (405, b"GET, HEAD")


def test_names_filter() -> None:
    assert asyncio.run(ask(Exposition(render), query=b"name[]=b&name%5B%5D=a_total"))[2] == TEXT
    assert asyncio.run(ask(Exposition(render), query=b"name[]=b"))[2] == b""


@pytest.mark.parametrize("presented", ["", "Bearer", "Bearer wrong", "Basic s3cret", "Bearer s3cre", "Bearer s3crett", "Bearer \xff"])
def test_a_token_is_needed_where_there_is_one(presented: str) -> None:
    app = Exposition(render, "s3cret")
    status, headers, body = asyncio.run(ask(app, authorization=presented))
    assert (status, headers[b"www-authenticate"]) == (401, b'Bearer realm="metrics"')
    assert b"a_total" not in body


def test_the_token_opens() -> None:
    app = Exposition(render, "s3cret")
    for presented in ("Bearer s3cret", "bearer s3cret"):
        assert asyncio.run(ask(app, authorization=presented))[0] == 200
    assert asyncio.run(ask(app))[0] == 401


def test_what_is_unavailable_says_why(caplog: pytest.LogCaptureFixture) -> None:
    def nothing(_openmetrics: bool) -> bytes:
        raise Unavailable("no directory yet")

    def broken(_openmetrics: bool) -> bytes:
        raise RuntimeError("inner secret")

    status, _, body = asyncio.run(ask(Exposition(nothing)))
    assert (status, body) == (503, b"no directory yet\n")
    status, _, body = asyncio.run(ask(Exposition(broken)))
    assert status == 500
    assert b"secret" not in body
    assert "inner secret" in caplog.text


def test_a_merge_that_fails_does_not_fail_the_next() -> None:
    outcomes = iter([RuntimeError("once"), TEXT])

    def sometimes(_openmetrics: bool) -> bytes:
        outcome = next(outcomes)
        if isinstance(outcome, bytes):
            return outcome
        raise outcome

    app = Exposition(sometimes)

    async def twice() -> list[int]:
        return [(await ask(app))[0], (await ask(app))[0]]

    assert asyncio.run(twice()) == [500, 200]


class Slow:
    """A render that waits to be let go, and knows how many ran at once."""

    def __init__(self) -> None:
        self.started = 0
        self.most = 0
        self.running = 0
        self.go = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __call__(self, openmetrics: bool) -> bytes:
        with self._lock:
            self.started += 1
            self.running += 1
            self.most = max(self.most, self.running)
            mine = self.started
        assert self.go.acquire(timeout=60)
        with self._lock:
            self.running -= 1
        return b"%d %d" % (mine, openmetrics)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a thread changes it
            await asyncio.sleep(0.001)


def test_scrapes_that_wait_share_one_merge_which_began_after_they_came() -> None:
    async def run() -> None:
        slow = Slow()
        merges = SharedMerge(slow)
        first = asyncio.create_task(merges.body(openmetrics=False))
        await until(lambda: slow.started == 1)
        waiting = [asyncio.create_task(merges.body(openmetrics=False)) for _ in range(10)]
        other = asyncio.create_task(merges.body(openmetrics=True))
        await asyncio.sleep(0.05)
        assert slow.started == 1  # one merge in flight
        for _ in range(3):
            slow.go.release()
        assert await first == b"1 0"
        assert set(await asyncio.gather(*waiting)) == {b"2 0"}
        assert await other == b"3 1"
        assert (slow.started, slow.most) == (3, 1)

    asyncio.run(run())


def test_a_scraper_that_gives_up_disturbs_nobody() -> None:
    async def run() -> None:
        slow = Slow()
        merges = SharedMerge(slow)
        impatient = asyncio.create_task(merges.body(openmetrics=False))
        patient = asyncio.create_task(merges.body(openmetrics=False))
        await until(lambda: slow.started == 1)
        impatient.cancel()
        slow.go.release()
        slow.go.release()
        assert await patient == b"1 0"
        with pytest.raises(asyncio.CancelledError):
            await impatient
        assert await merges.body(openmetrics=False) == b"2 0"

    asyncio.run(run())


def test_the_event_loop_runs_while_a_merge_does() -> None:
    async def run() -> None:
        slow = Slow()
        scrape = asyncio.create_task(ask(Exposition(slow)))
        await until(lambda: slow.started == 1)
        slow.go.release()  # reached only because the loop is free
        assert (await scrape)[0] == 200

    asyncio.run(run())
