"""Serves an exposition over ASGI: what the app's ``/metrics`` and the exporter have in common.

A scrape is answered in the format that its Accept header prefers, on GET and HEAD, whole or filtered by ``name[]``,
gzipped where that is accepted. Merges run in a thread, one at a time however many scrapes wait, and a scrape is always
answered from a merge that began after it arrived, so it holds everything that was acknowledged before. No server framework
is needed here, and prometheus_client is not imported.
"""

import asyncio
import gzip
import hmac
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from monitoring.negotiation import gzip_accepted, openmetrics_preferred, select

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

OPENMETRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = b"text/plain; version=0.0.4; charset=utf-8"
PLAIN = b"text/plain; charset=utf-8"

_log = logging.getLogger("monitoring.exposition")


class Unavailable(Exception):  # noqa: N818 - it is a state of the directory, told to the scraper, not a fault of ours
    """There is nothing to merge (yet): answered with 503 and this text."""


class Exposition:
    """An ASGI application that answers every path with the exposition that ``render(openmetrics)`` gives.

    With a token, a request needs it as a bearer token. ``close`` asks the client to close the connection after the
    answer: a process that is replaced while it serves then never has to cut an idle connection.
    """

    def __init__(self, render: Callable[[bool], bytes], token: str | None = None, *, close: bool = False) -> None:
        """Keep how to render, and what a scraper must present."""
        self._merges = SharedMerge(render)
        self._expected = None if not token else b"bearer " + token.encode()
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scrape."""
        del receive  # a scrape has no body to read
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers[name] = headers[name] + b"," + value if name in headers else value
        if scope["method"] not in {"GET", "HEAD"}:
            allow = [(b"allow", b"GET, HEAD")]
            await self._answer(scope, send, 405, b"only GET and HEAD are answered here\n", extra=allow)
        elif not self._authorized(headers.get(b"authorization", b"")):
            challenge = [(b"www-authenticate", b'Bearer realm="metrics"')]
            await self._answer(scope, send, 401, b"the bearer token METRICS_TOKEN is needed\n", extra=challenge)
        else:
            await self._scrape(scope, send, headers)

    async def _scrape(self, scope: Scope, send: Send, headers: dict[bytes, bytes]) -> None:
        openmetrics = openmetrics_preferred(headers.get(b"accept", b"").decode("latin-1"))
        zipped = gzip_accepted(headers.get(b"accept-encoding", b"").decode("latin-1"))
        names = frozenset(parse_qs(scope.get("query_string", b"").decode("latin-1")).get("name[]", ()))
        try:
            body = await self._merges.body(openmetrics=openmetrics)
            if names or zipped:
                body = await asyncio.to_thread(_shape, body, names, zipped=zipped)
        except Unavailable as reason:
            await self._answer(scope, send, 503, f"{reason}\n".encode(), extra=[(b"retry-after", b"1")])
            return
        except Exception:  # noqa: BLE001 - logged; a server would answer with less
            _log.exception("the scrape failed")
            await self._answer(scope, send, 500, b"the merge failed; the log of this process has the cause\n")
            return
        extra: Headers = [(b"vary", b"Accept, Accept-Encoding")]
        if zipped:
            extra.append((b"content-encoding", b"gzip"))
        await self._answer(scope, send, 200, body, OPENMETRICS if openmetrics else TEXT, extra)

    def _authorized(self, presented: bytes) -> bool:
        if self._expected is None:
            return True
        scheme, _, token = presented.partition(b" ")
        return hmac.compare_digest(scheme.lower() + b" " + token.strip(), self._expected)

    async def _answer(
        self, scope: Scope, send: Send, status: int, body: bytes, kind: bytes = PLAIN, extra: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        headers: Headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *extra]
        if self._close:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


class SharedMerge:
    """Runs ``render`` in a thread, one merge at a time; all that arrive while one runs share the next."""

    def __init__(self, render: Callable[[bool], bytes]) -> None:
        """Keep how to render."""
        self._render = render
        self._running = asyncio.Lock()
        self._next: dict[bool, asyncio.Task[bytes]] = {}

    async def body(self, *, openmetrics: bool) -> bytes:
        """Give the outcome of a merge that begins after this call; one who gives up waiting disturbs nobody else."""
        task = self._next.get(openmetrics)
        if task is None or task.done():
            task = self._next[openmetrics] = asyncio.create_task(self._merge(openmetrics))
        return await asyncio.shield(task)

    async def _merge(self, openmetrics: bool) -> bytes:
        async with self._running:
            del self._next[openmetrics]  # whoever arrives from here on may know of more than this merge will see
            return await asyncio.to_thread(self._render, openmetrics)


def _shape(body: bytes, names: frozenset[str], *, zipped: bool) -> bytes:
    """Do the work on one scrape's own copy that is too long for an event loop."""
    if names:
        body = select(body, names)
    return gzip.compress(body, compresslevel=1, mtime=0) if zipped else body
