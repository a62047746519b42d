"""Pure ASGI middleware that moves the six HTTP families of the catalogue, and changes no response.

A request is counted just before the message is forwarded with which a client can know that the response is complete, so whatever a
client has received in full is counted even if the worker is killed the moment after. What fails after that point changes no count.
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter
from typing import TYPE_CHECKING

from .cells import Cells, Methods
from .templates import Templates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .exposition import Message, Receive, Scope, Send

DISCONNECTED = 499
"""The status of a request whose client went away, or that was cancelled, before its response was complete."""

FAILED = 500

_SEEN = "monitoring.middleware"
_UNKNOWN_LENGTH = sys.maxsize
_DIGITS = 19
_NO_BODY = frozenset({204, 304})


class MetricsMiddleware:
    """Counts every HTTP request of `app` once, also where applications inside or around it have this middleware too."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app
        self._cells: dict[tuple[str, str, int], Cells] = {}
        self._templates = Templates()
        self.methods = Methods()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run `app`; WebSockets and the lifespan pass untouched."""
        if scope["type"] != "http" or _SEEN in scope:
            await self.app(scope, receive, send)
            return
        scope[_SEEN] = True
        exchange = _Exchange(self, scope, receive, send)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            if not exchange.counted:
                cancelled = isinstance(error, (asyncio.CancelledError, GeneratorExit))
                exchange.end(DISCONNECTED if cancelled else FAILED)
            raise
        if not exchange.counted:
            # The server ends such a response: with a 500 of its own, or by closing the connection.
            exchange.end(FAILED)

    def cells(self, endpoint: str, method: str, status: int) -> Cells:
        """Give the cells of one endpoint, method and status, made at their first use."""
        key = (endpoint, method, status)
        found = self._cells.get(key)
        if found is None:
            found = self._cells[key] = Cells(endpoint, method, status)
        return found

    def endpoint(self, scope: Scope, status: int) -> str:
        """Name the endpoint, once the routing is over."""
        return self._templates.find(scope, status)


class _Exchange:
    """One request and its response: what passed so far, and whether it is counted."""

    started: Message | None = None
    cells: Cells | None = None
    counted = False
    disconnected = False
    received = 0
    sent = 0
    length = _UNKNOWN_LENGTH

    def __init__(self, middleware: MetricsMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self._middleware = middleware
        self._scope = scope
        self._receive = receive
        self._send = send
        # Kept now: applications inside may rewrite the scope, and what began must end under the same name.
        self.method, self._progress = middleware.methods[scope["method"]]
        self._began = perf_counter()
        self._progress(1.0)

    async def receive(self) -> Message:
        """Receive for the application; counts the bytes that it reads."""
        message = await self._receive()
        if not self.counted:
            if message["type"] == "http.request":
                self.received += len(message.get("body") or b"")
            elif message["type"] == "http.disconnect":
                self.disconnected = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Send for the application: count first where this message completes the response, then forward.

        A plain function: the common messages cost no coroutine of ours.
        """
        if self.counted:
            return self._send(message)
        kind = message["type"]
        if kind == "http.response.body":
            if self.cells is not None:
                body = message.get("body")
                if body:
                    self.sent += body.nbytes if isinstance(body, memoryview) else len(body)
                if not message.get("more_body") or self.sent >= self.length:
                    self._complete(self.cells)
                    return self._send(message)
        elif kind == "http.response.start":
            if self.cells is None:
                return self._begin(message)
        elif self.cells is not None:
            self._extension(kind, message)
        return self._forward(message)

    async def _forward(self, message: Message) -> None:
        """Forward before the response is complete: an OSError says that the client is gone."""
        try:
            await self._send(message)
        except OSError:
            self.disconnected = True
            raise

    def _begin(self, message: Message) -> Awaitable[None]:
        """Note the response's start, and complete the response where nothing can follow."""
        status = message["status"]
        headers = message.get("headers") or ()
        if type(headers) not in {list, tuple}:
            # An iterator can be read once: the server gets what we read.
            headers = list(headers)
            message = {**message, "headers": headers}
        middleware = self._middleware
        cells = self.cells = middleware.cells(middleware.endpoint(self._scope, status), self.method, status)
        cells.first_byte(perf_counter() - self._began)
        for name, value in headers:
            if len(name) == 14 and name.lower() == b"content-length" and value.isdigit() and len(value) <= _DIGITS:  # noqa: PLR2004 - it has 14 letters
                self.length = int(value)
                break
        if status < 200 or status in _NO_BODY or self.length == 0 or self.method == "HEAD":  # noqa: PLR2004 - informational
            self._complete(cells)
            return self._send(message)
        return self._forward(message)

    def _extension(self, kind: str, message: Message) -> None:
        """Follow the ASGI extensions with which a server sends files by itself."""
        if kind == "http.response.pathsend":
            self.sent += self.length if self.length != _UNKNOWN_LENGTH else 0
        elif kind == "http.response.zerocopysend":
            self.sent += message.get("count") or 0
            if message.get("more_body") and self.sent < self.length:
                return
        else:
            return
        assert self.cells is not None  # noqa: S101 - the response has started
        self._complete(self.cells)

    def _complete(self, cells: Cells) -> None:
        """Count a response that is about to be complete."""
        if self.disconnected:
            cells = self._middleware.cells(cells.endpoint, self.method, DISCONNECTED)
        self.counted = True
        self._progress(-1.0)
        cells.finished(perf_counter() - self._began, self.received, self.sent)

    def end(self, status: int) -> None:
        """Count a request whose response was never completed."""
        if self.disconnected:
            status = DISCONNECTED
        middleware = self._middleware
        if self.cells is None:
            self.cells = middleware.cells(middleware.endpoint(self._scope, status), self.method, status)
            if status == FAILED:
                # The server or an outer middleware answers now.
                self.cells.first_byte(perf_counter() - self._began)
        else:
            self.cells = middleware.cells(self.cells.endpoint, self.method, status)
        self._complete(self.cells)
