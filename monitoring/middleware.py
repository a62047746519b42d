"""Pure ASGI middleware that moves the six HTTP families of the catalogue, and changes no response.

A request is counted just before the message is forwarded with which a client can know that the response is complete, so whatever a
client has received in full is counted even if the worker is killed the moment after. What fails after that point changes no count.
"""

from __future__ import annotations

import asyncio
import os
import sys
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from .cells import Cells, Method, Methods, known_status
from .templates import Templates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .asgi import Message, Receive, Scope, Send

    Headers = Sequence[tuple[bytes, bytes]]

DISCONNECTED = 499
"""The status of a request whose client went away, or that was cancelled, before its response was complete."""

FAILED = 500

_SEEN = "monitoring.middleware"
_UNKNOWN = sys.maxsize
_DIGITS = 18
_TRAILERS = "http.response.trailers"
_MOST_CELLS = 4096
_QUIET = frozenset({"2.0", "2.1", "2.2", "2.3"})
"""Versions of ASGI before 2.4, with which servers drop in silence what is sent to a client that went away."""
_UNSAID: dict[str, Any] = {}
_NO_PLACE = (IndexError, ValueError)
"""What a direct write raises where values are not this package's or have no file, and after a fork or a rewriting."""


class MetricsMiddleware:
    """Counts every HTTP request of `app` once, also where applications inside or around it have this middleware too."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app
        self.cells: dict[tuple[str, str, int], Cells] = {}
        self.methods = Methods()
        self.templates = Templates()

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
                exchange.end(DISCONNECTED if isinstance(error, asyncio.CancelledError | GeneratorExit) else FAILED)
            raise
        if not exchange.counted:
            # The server ends such a response: with a 500 of its own, or by closing the connection.
            exchange.end(FAILED)

    def find(self, endpoint: str, method: Method, status: int) -> Cells:
        """Give the cells of one endpoint, method and status, made at their first use."""
        status = known_status(status)
        key = (endpoint, method.label, status)
        found = self.cells.get(key)
        if found is None or 0.0 < found.again_at <= monotonic():
            if len(self.cells) >= _MOST_CELLS:
                # An application that makes routes as it goes: begin anew rather than grow.
                self.forget()
            found = self.cells[key] = Cells(endpoint, method.label, status)
        if not found.again_at:
            method.endpoints[endpoint] = found
        return found

    def forget(self) -> None:
        """Look every cell up anew, as after `clear()` of a family."""
        self.cells.clear()
        for method in self.methods.values():
            method.endpoints.clear()


class _Exchange:
    """One request and its response: what passed so far, and whether it is counted. The common path makes few calls on purpose."""

    __slots__ = (
        "_began",
        "_cells",
        "_disconnected",
        "_first",
        "_headers",
        "_method",
        "_middleware",
        "_receive",
        "_received",
        "_scope",
        "_send",
        "_sent",
        "_trailers",
        "counted",
    )

    def __init__(self, middleware: MetricsMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self._middleware = middleware
        self._scope = scope
        self._receive = receive
        self._send = send
        # Kept now: applications inside may rewrite the scope, and what began must end under the same name.
        self._method = method = middleware.methods[scope["method"]]
        self._cells: Cells | None = None
        self._first: float | None = None
        self._disconnected = self._trailers = self.counted = False
        self._received = self._sent = 0
        self._headers: Headers = ()
        try:
            method.doubles[method.at] += 1.0
        except _NO_PLACE:
            method.add(1.0)
        self._began = perf_counter()

    async def receive(self) -> Message:
        """Receive for the application; counts the bytes that it reads."""
        message = await self._receive()
        if not self.counted:
            if message["type"] == "http.request":
                self._received += len(message.get("body") or b"")
            elif message["type"] == "http.disconnect":
                self._disconnected = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Send for the application: count first where this message completes the response, then forward.

        A plain function: the common messages cost no coroutine of ours.
        """
        if self.counted:
            return self._send(message)
        kind = message["type"]
        cells = self._cells
        if cells is not None and kind == "http.response.body" and not message.get("more_body") and not self._trailers:
            # The last message, by far the most common way to end.
            self.counted = True
            method = self._method
            try:
                method.doubles[method.at] -= 1.0
            except _NO_PLACE:
                method.add(-1.0)
            body = message.get("body")
            sent = self._sent
            if body:
                sent += len(body) if body.__class__ is bytes else _size(body)
            if self._disconnected:
                cells = self._middleware.find(cells.endpoint, self._method, DISCONNECTED)
            cells.finish(self._first, perf_counter() - self._began, self._received, sent)
            return self._send(message)
        if cells is None and kind == "http.response.start":
            return self._start(message)
        if cells is not None:
            self._pass(cells, kind, message)
        return self._forward(message)

    def _start(self, message: Message) -> Awaitable[None]:
        """Note the response's start, and complete the response where nothing can follow."""
        status = message.get("status", 0)
        if status.__class__ is not int:
            status = known_status(status)
        headers = message.get("headers") or ()
        if headers.__class__ is not list and not isinstance(headers, list | tuple):
            # An iterator can be read once: the server gets what we read.
            headers = list(headers)
            message = {**message, "headers": headers}
        self._headers = headers
        scope = self._scope
        try:
            # What answered under this template before, most often with this status: no call for the most common of routes.
            cells = self._method.endpoints[scope["route"].path]
            if cells.status != status or "fastapi" in scope or "app_root_path" in scope:
                cells = self._look_up(status)
        except Exception:  # noqa: BLE001 - no such route, or none that has a path; a label must never cost a request
            cells = self._look_up(status)
        self._cells = cells
        self._first = perf_counter() - self._began
        if cells.bodiless or _is_empty(headers):
            self._complete(cells)
            return self._send(message)
        if message.get("trailers"):
            self._trailers = _awaits_trailers(self._scope)
        return self._send(message) if scope.get("asgi", _UNSAID).get("spec_version") in _QUIET else self._forward(message)

    def _look_up(self, status: int) -> Cells:
        """Find the cells of this request's endpoint, whatever chose its route."""
        endpoint = self._middleware.templates.find(self._scope, status)
        cells = self._method.endpoints.get(endpoint)
        return cells if cells is not None and cells.status == status else self._middleware.find(endpoint, self._method, status)

    def _pass(self, cells: Cells, kind: str, message: Message) -> None:
        """Follow a message between the start and the last one, and those by which a server sends files by itself."""
        last = False
        if kind == "http.response.body":
            self._sent += _size(message.get("body") or b"")
            last = not message.get("more_body")
        elif kind == "http.response.zerocopysend":
            count = message.get("count")
            self._sent += _rest(message) if count is None else count
            last = not message.get("more_body")
        elif kind == "http.response.pathsend":
            self._sent += _file_size(message.get("path"))
            last = True
        if self._trailers:
            last = kind == _TRAILERS and not message.get("more_trailers")
        if last or self._sent >= self._length():
            self._complete(cells)
        elif self._first is not None:
            # A stream: its first byte shows before its end, which may be hours away.
            first, self._first = self._first, None
            cells.first_byte(first)

    def _length(self) -> int:
        """Read the response's content-length, which only bodies in several messages need."""
        try:
            for name, value in self._headers:
                if name.lower() == b"content-length":
                    return int(value) if value.isdigit() and len(value) <= _DIGITS else _UNKNOWN
        except (TypeError, ValueError, AttributeError):
            pass  # no pairs of bytes: for the server to refuse
        return _UNKNOWN

    async def _forward(self, message: Message) -> None:
        """Forward before the response is complete: an OSError says that the client is gone."""
        try:
            await self._send(message)
        except OSError:
            self._disconnected = True
            raise

    def _complete(self, cells: Cells) -> None:
        """Count a response that is about to be complete."""
        self.counted = True
        method = self._method
        try:
            method.doubles[method.at] -= 1.0
        except _NO_PLACE:
            method.add(-1.0)
        if self._disconnected:
            cells = self._middleware.find(cells.endpoint, self._method, DISCONNECTED)
        cells.finish(self._first, perf_counter() - self._began, self._received, self._sent)

    def end(self, status: int) -> None:
        """Count a request whose response was never completed."""
        if self._disconnected:
            status = DISCONNECTED
        middleware = self._middleware
        if self._cells is not None:
            self._complete(middleware.find(self._cells.endpoint, self._method, status))
            return
        if status == FAILED:
            # The server, or an outer middleware, answers now; nobody answers one who left.
            self._first = perf_counter() - self._began
        self._complete(middleware.find(middleware.templates.find(self._scope, status), self._method, status))


def _is_empty(headers: Headers) -> bool:
    """Whether the headers announce a body of no bytes."""
    try:
        for name, value in headers:
            if value == b"0" and name.lower() == b"content-length":
                return True
    except (TypeError, ValueError, AttributeError):
        pass  # no pairs of bytes: for the server to refuse
    return False


def _awaits_trailers(scope: Scope) -> bool:
    """Whether the server holds the response open for trailers: it can, and the client said that it reads them."""
    if _TRAILERS not in (scope.get("extensions") or ()):
        return False
    return any(name == b"te" and b"trailers" in value.lower() for name, value in scope["headers"])


def _size(body: object) -> int:
    """Give a body's bytes; 0 where it is nothing that a server takes."""
    try:
        return memoryview(body).nbytes  # type: ignore[arg-type]
    except TypeError:
        return 0


def _file_size(file: Any) -> int:  # noqa: ANN401 - whatever the application sent
    """Give the bytes of a file that the server sends by itself; 0 where nobody can tell."""
    try:
        return os.stat(file).st_size  # noqa: PTH116 - a path or a descriptor
    except (OSError, TypeError, ValueError):
        return 0


def _rest(message: Message) -> int:
    """Give the bytes from where the server begins to the end of an open file."""
    file, offset = message.get("file"), message.get("offset")
    try:
        descriptor = file if isinstance(file, int) else file.fileno()  # type: ignore[union-attr]
        if offset is None:
            offset = os.lseek(descriptor, 0, os.SEEK_CUR)
    except (OSError, AttributeError, ValueError, TypeError):
        return 0
    return max(0, _file_size(descriptor) - offset)
