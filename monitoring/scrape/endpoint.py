"""The application's own `/metrics`: every worker answers with the same merged exposition.

It is served only while the service is bound to loopback, or with a token. It never redirects. A worker forwards the exporter's
answer. If no exporter answers, the worker merges in a thread of its own process.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.addresses import Address, is_loopback, open_sockets
from monitoring.asgi_types import Receive, Scope, Send
from monitoring.scrape.relay import Relay
from monitoring.scrape.response import Answer, Merges, Unavailable, expected, plain, refusal, wanted

if TYPE_CHECKING:
    from monitoring.multiprocess import MergedCollector

_AT_ONCE = 32
_QUEUE_SECONDS = 10.0


class MetricsEndpoint:
    """An ASGI application for the metrics path. Remote clients without a token get the answer of a path that does not exist.

    Under gunicorn the addresses that the worker listens on decide, or `bind` if there is no /proc. Under other servers, as uvicorn, the
    server's end of each connection decides. `missing` returns the exception that is raised instead of an answer.
    """

    def __init__(self, *, bind: str, token: str | None, missing: Callable[[], Exception]) -> None:
        self._bind = [Address.parse(part.strip()) for part in bind.split(",")]
        self._token = token
        self._missing = missing
        self._local: bool | None = None
        self._scrapes = Scrapes(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scrape, or raise the exception of `missing`."""
        if not (self._token or self._is_local(scope)):
            raise self._missing()
        await self._scrapes(scope, receive, send)

    def _is_local(self, scope: Scope) -> bool:
        if started_by_gunicorn():
            if self._local is None:
                self._local = all(each.is_loopback for each in listening_addresses() or self._bind)
            return self._local
        server = scope.get("server")
        return server is not None and server[1] is not None and is_loopback(server[0])


class Scrapes:
    """An ASGI application that answers every path with the merged exposition. With a token, scrapers must present it."""

    def __init__(self, token: str | None = None) -> None:
        self._authorization = expected(token)
        self._collector: MergedCollector | None = None
        self._merges = Merges(self._render)
        self._relay = Relay()
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scrape."""
        del receive  # a scrape has no body to read
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers[name] = headers[name] + b"," + value if name in headers else value
        refused = refusal(scope["method"], headers, self._authorization)
        if refused is not None:
            await _send(refused, scope, send)
            return
        try:
            async with asyncio.timeout(_QUEUE_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            await _send(plain(503, b"too many scrapes at once\n", (b"retry-after", b"1")), scope, send)
            return
        try:
            if await self._relay(os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""), scope, headers, send):
                self._collector = None  # the exporter holds one
            else:
                await _send(await self._merge(headers, scope.get("query_string", b"")), scope, send)
        finally:
            self._places.release()

    async def _merge(self, headers: dict[bytes, bytes], query: bytes) -> Answer:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()

        def arrived(answer: Answer) -> None:
            if not future.done():  # the scraper may have left
                future.set_result(answer)

        def done(answer: Answer) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(arrived, answer)

        self._merges.ask(wanted(headers, query), done)
        return await future

    def _render(self, openmetrics: bool) -> bytes:
        """Merge, one thread at a time. A worker that never merges holds no collector."""
        path = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
        if not Path(path).is_dir():
            self._collector = None
            reason = f"the metrics directory {path} was removed. Restart the service."
            raise Unavailable(reason)
        collector = self._collector
        if collector is None:
            from monitoring.multiprocess import MergedCollector

            collector = self._collector = MergedCollector(None)
        return collector.render(openmetrics)


async def _send(answer: Answer, scope: Scope, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})


def started_by_gunicorn() -> bool:
    """Return whether a gunicorn master started this process: it leaves its name in the environment."""
    return os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/")


def listening_addresses() -> list[Address]:
    """Return the addresses that this process listens on. Where there is no /proc, there are none."""
    found = set()
    for sock in open_sockets():
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            name = sock.getsockname()
            found.add(Address(host=str(name[0]), port=name[1]) if isinstance(name, tuple) else Address(path=os.fsdecode(name)))
    return list(found)
