"""One request and its response, followed message by message.

A request is counted just before the message that completes its response is sent. So every response that a client has received
completely is counted, even if the worker is killed a moment later. A failure after that point changes no count.
"""

from __future__ import annotations

import os
import sys
from operator import index
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final

from .awaitables import forwarded, received
from .request_metrics import NO_TIME, OTHER, Cells, Method, Methods, known_status
from .route_template import Templates

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from monitoring.asgi_types import Message, Receive, Scope, Send


DISCONNECTED: Final = 499
"""The status of a request whose client went away, or that was cancelled, before its response was complete."""

FAILED: Final = 500

MOST_CELLS: Final = 4096
_now: Final = perf_counter
_SEEN: Final = "monitoring.middleware"
_UNKNOWN: Final = sys.maxsize
_DIGITS: Final = 18
_TRAILERS: Final = "http.response.trailers"
_QUIET: Final = frozenset({"2.0", "2.1", "2.2", "2.3"})
"""Versions of ASGI before 2.4: servers silently drop messages to a client that has disconnected."""
_NONE: Final[list[Any]] = []
_NO_PLACE: Final = (IndexError, ValueError)
"""Raised by a direct write after a fork or a rewrite, or if values have no file or are not of this package."""


class Answers:
    """The cells of all endpoints that have answered so far."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str, int], Cells] = {}
        self.methods = Methods()
        self.templates = Templates()

    def begin(self, scope: Scope, receive: Receive, send: Send) -> Exchange | None:
        """Start an exchange. None for other scopes than HTTP, and for a request that another instance of the middleware counts."""
        if scope["type"] != "http" or _SEEN in scope:
            return None
        scope[_SEEN] = True
        return Exchange(self, scope, receive, send)

    def find(self, endpoint: str, method: Method, status: int) -> Cells:
        """Return the cells of one endpoint, method and status, created at first use."""
        status = known_status(status)
        key = (endpoint, method.label, status)
        found = self.cells.get(key)
        if found is None or 0.0 < found.again_at <= monotonic():
            if len(self.cells) >= MOST_CELLS:
                # The application creates routes without end: start again rather than grow.
                self.forget()
            found = self.cells[key] = Cells(endpoint, method.label, status)
        if not found.again_at:
            method.endpoints[endpoint] = found
        return found

    def forget(self) -> None:
        """Look up every cell again, as after `clear()` of a family."""
        self.cells.clear()
        for method in self.methods.values():
            method.endpoints.clear()


class Exchange:
    """One request and its response: their messages so far, and whether they are counted. The common path makes few calls on purpose."""

    __slots__ = (
        "_answers",
        "_began",
        "_cells",
        "_first",
        "_headers",
        "_method",
        "_receive",
        "_received",
        "_scope",
        "_send",
        "_sent",
        "_trailers",
        "counted",
        "disconnected",
    )

    def __init__(self, answers: Answers, scope: Scope, receive: Receive, send: Send) -> None:
        self._answers = answers
        self._scope = scope
        self._receive = receive
        self._send = send
        # Kept now: applications inside may rewrite the scope, and the request must start and end under the same method.
        word = scope["method"]
        self._method = method = answers.methods[word if isinstance(word, str) else OTHER]
        self._cells: Cells | None = None
        self._first = NO_TIME
        self.disconnected = self._trailers = self.counted = False
        self._received = self._sent = 0
        self._headers: list[Any] = _NONE
        try:
            method.doubles[method.at] += 1.0
        except _NO_PLACE:
            method.add(1.0)
        self._began = _now()

    def receive(self) -> Awaitable[Message]:
        """Receive a message for the application, and count its bytes."""
        return received(self, self._receive)

    def note(self, message: Message) -> None:
        """Record a message that the application receives."""
        if self.counted:
            return
        if message["type"] == "http.request":
            self._received += len(message.get("body") or b"")
        elif message["type"] == "http.disconnect":
            self.disconnected = True

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message of the application. If it completes the response, count first.

        This is a plain function, so that the common messages need no further coroutine.
        """
        if self.counted:
            return self._send(message)
        fields: dict[str, Any] = message if isinstance(message, dict) else dict(message)
        kind = fields["type"]
        cells = self._cells
        if cells is not None and kind == "http.response.body" and not fields.get("more_body") and not self._trailers:
            # The last message, by far the most common way to end.
            body = fields.get("body")
            if body:
                self._sent += len(body) if isinstance(body, bytes) else _size(body)
            self._complete(cells)
            return self._send(message)
        if cells is None and kind == "http.response.start":
            return self._start(message, fields)
        if cells is not None:
            self._pass(cells, kind, fields)
        return forwarded(self, self._send, message)

    def _start(self, message: Message, fields: dict[str, Any]) -> Awaitable[None]:
        """Record the start of the response, and complete the response if it has no body."""
        given = fields.get("status")
        status = given if isinstance(given, int) else known_status(given)
        sent = fields.get("headers") or ()
        headers: list[Any] = sent if isinstance(sent, list) else list(sent)
        if headers is not sent and not isinstance(sent, tuple):
            # An iterator can be read only once: pass the list to the server.
            message = {**fields, "headers": headers}
        self._headers = headers
        scope = self._scope
        try:
            # The last answer of this route, usually with the same status: the most common routes need no call.
            cells = self._method.endpoints[scope["route"].path]
            if cells.status != status or "fastapi" in scope or "app_root_path" in scope:
                cells = self._look_up(status)
        except Exception:  # noqa: BLE001 - no route yet, or one without a path; a label must never fail a request
            cells = self._look_up(status)
        self._cells = cells
        self._first = _now() - self._began
        if cells.bodiless or _is_empty(headers):
            self._complete(cells)
            return self._send(message)
        if fields.get("trailers"):
            self._trailers = _awaits_trailers(scope)
        try:
            quiet = scope["asgi"]["spec_version"] in _QUIET
        except (KeyError, TypeError):
            quiet = False
        return self._send(message) if quiet else forwarded(self, self._send, message)

    def _look_up(self, status: int) -> Cells:
        """Return the cells of the endpoint of this request."""
        endpoint = self._answers.templates.find(self._scope, status)
        cells = self._method.endpoints.get(endpoint)
        return cells if cells is not None and cells.status == status else self._answers.find(endpoint, self._method, status)

    def _pass(self, cells: Cells, kind: object, message: dict[str, Any]) -> None:
        """Record a message after the start, files sent by the server included, and complete the response at the last one."""
        last = False
        if kind == "http.response.body":
            self._sent += _size(message.get("body") or b"")
            last = not message.get("more_body")
        elif kind == "http.response.zerocopysend":
            count = message.get("count")
            self._sent += _rest(message) if count is None else _whole(count)
            last = not message.get("more_body")
        elif kind == "http.response.pathsend":
            self._sent += _file_size(message.get("path"))
            last = True
        if self._trailers:
            last = kind == _TRAILERS and not message.get("more_trailers")
        # Only bodies in several messages need the announced length.
        if last or self._sent >= _length(self._headers):
            self._complete(cells)
        elif self._first >= 0.0:
            # A stream may last for hours: observe its first byte now.
            cells.first_byte(self._first)
            self._first = NO_TIME

    def _complete(self, cells: Cells) -> None:
        """Count the response, just before its last message is sent."""
        self.counted = True
        method = self._method
        try:
            method.doubles[method.at] -= 1.0
        except _NO_PLACE:
            method.add(-1.0)
        if self.disconnected:
            cells = self._answers.find(cells.endpoint, self._method, DISCONNECTED)
        cells.finish(self._first, _now() - self._began, self._received, self._sent)

    def end(self, status: int) -> None:
        """Count a request without a complete response."""
        if self.disconnected:
            status = DISCONNECTED
        answers = self._answers
        if self._cells is not None:
            self._complete(answers.find(self._cells.endpoint, self._method, status))
            return
        if status == FAILED:
            # The server, or an outer middleware, answers now. A client that left gets no answer.
            self._first = _now() - self._began
        self._complete(answers.find(answers.templates.find(self._scope, status), self._method, status))


def _is_empty(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the headers announce an empty body."""
    try:
        for name, value in headers:
            if value == b"0" and name.lower() == b"content-length":
                return True
    except (TypeError, ValueError, AttributeError):
        pass
    else:
        return False
    # The compiled loop accepts only pairs of bytes; some applications send lists.
    others: list[Any] = list(headers)
    try:
        return any(value == b"0" and name.lower() == b"content-length" for name, value in others)
    except (TypeError, ValueError, AttributeError):
        return False  # not pairs of bytes: the server refuses them


def _length(headers: list[Any]) -> int:
    """Return the content-length of a response."""
    try:
        for name, value in headers:
            if name.lower() == b"content-length":
                return int(value) if value.isdigit() and len(value) <= _DIGITS else _UNKNOWN
    except (TypeError, ValueError, AttributeError):
        pass  # not pairs of bytes: the server refuses them
    return _UNKNOWN


def _awaits_trailers(scope: Scope) -> bool:
    """Whether trailers follow: the server supports them, and the client accepts them."""
    try:
        return _TRAILERS in scope["extensions"] and any(name == b"te" and b"trailers" in value.lower() for name, value in scope["headers"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _size(body: object) -> int:
    """Return the size of a body in bytes, or 0 if the server would not accept it."""
    try:
        return memoryview(body).nbytes  # type: ignore[arg-type]
    except TypeError:
        return 0


def _file_size(file: Any) -> int:
    """Return the size in bytes of a file that the server sends, or 0 if it cannot be read."""
    try:
        return os.stat(file).st_size
    except (OSError, TypeError, ValueError):
        return 0


def _rest(message: dict[str, Any]) -> int:
    """Return the bytes from the offset, or the current position, to the end of an open file."""
    file: Any = message.get("file")
    offset: Any = message.get("offset")
    try:
        descriptor = file if isinstance(file, int) else file.fileno()
        if offset is None:
            offset = os.lseek(descriptor, 0, os.SEEK_CUR)
    except (OSError, AttributeError, ValueError, TypeError):
        return 0
    return max(0, _file_size(descriptor) - _whole(offset))


def _whole(number: object) -> int:
    """Return a count of bytes, or 0 for a value that the server refuses."""
    try:
        return max(0, index(number))  # type: ignore[arg-type]
    except TypeError:
        return 0
