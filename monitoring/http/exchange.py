"""One request and its response, followed message by message.

A request is counted just before the message is forwarded with which a client can know that the response is complete, so whatever a
client has received in full is counted even if the worker is killed the moment after. What fails after that point changes no count.
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
"""Versions of ASGI before 2.4, with which servers drop in silence what is sent to a client that went away."""
_NONE: Final[list[Any]] = []
_NO_PLACE: Final = (IndexError, ValueError)
"""What a direct write raises where values are not this package's or have no file, and after a fork or a rewriting."""


class Answers:
    """The cells of all that was answered so far, and what finds them."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str, int], Cells] = {}
        self.methods = Methods()
        self.templates = Templates()

    def begin(self, scope: Scope, receive: Receive, send: Send) -> Exchange | None:
        """Begin a request; None for what is none, and for one that another middleware of this kind counts already."""
        if scope["type"] != "http" or _SEEN in scope:
            return None
        scope[_SEEN] = True
        return Exchange(self, scope, receive, send)

    def find(self, endpoint: str, method: Method, status: int) -> Cells:
        """Give the cells of one endpoint, method and status, made at their first use."""
        status = known_status(status)
        key = (endpoint, method.label, status)
        found = self.cells.get(key)
        if found is None or 0.0 < found.again_at <= monotonic():
            if len(self.cells) >= MOST_CELLS:
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


class Exchange:
    """One request and its response: what passed so far, and whether it is counted. The common path makes few calls on purpose."""

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
        # Kept now: applications inside may rewrite the scope, and what began must end under the same name.
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
        """Receive for the application; counts the bytes that it reads."""
        return received(self, self._receive)

    def note(self, message: Message) -> None:
        """Take in what the application is about to receive."""
        if self.counted:
            return
        if message["type"] == "http.request":
            self._received += len(message.get("body") or b"")
        elif message["type"] == "http.disconnect":
            self.disconnected = True

    def send(self, message: Message) -> Awaitable[None]:
        """Send for the application: count first where this message completes the response, then forward.

        A plain function: the common messages cost no coroutine of ours.
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
        """Note the response's start, and complete the response where nothing can follow."""
        given = fields.get("status")
        status = given if isinstance(given, int) else known_status(given)
        sent = fields.get("headers") or ()
        headers: list[Any] = sent if isinstance(sent, list) else list(sent)
        if headers is not sent and not isinstance(sent, tuple):
            # An iterator can be read once: the server gets what we read.
            message = {**fields, "headers": headers}
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
        """Find the cells of this request's endpoint, whatever chose its route."""
        endpoint = self._answers.templates.find(self._scope, status)
        cells = self._method.endpoints.get(endpoint)
        return cells if cells is not None and cells.status == status else self._answers.find(endpoint, self._method, status)

    def _pass(self, cells: Cells, kind: object, message: dict[str, Any]) -> None:
        """Follow a message between the start and the last one, and those by which a server sends files by itself."""
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
        # Only bodies in several messages need the length that was announced.
        if last or self._sent >= _length(self._headers):
            self._complete(cells)
        elif self._first >= 0.0:
            # A stream: its first byte shows before its end, which may be hours away.
            cells.first_byte(self._first)
            self._first = NO_TIME

    def _complete(self, cells: Cells) -> None:
        """Count a response that is about to be complete."""
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
        """Count a request whose response was never completed."""
        if self.disconnected:
            status = DISCONNECTED
        answers = self._answers
        if self._cells is not None:
            self._complete(answers.find(self._cells.endpoint, self._method, status))
            return
        if status == FAILED:
            # The server, or an outer middleware, answers now; nobody answers one who left.
            self._first = _now() - self._began
        self._complete(answers.find(answers.templates.find(self._scope, status), self._method, status))


def _is_empty(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the headers announce a body of no bytes."""
    try:
        for name, value in headers:
            if value == b"0" and name.lower() == b"content-length":
                return True
    except (TypeError, ValueError, AttributeError):
        pass
    else:
        return False
    # Compiled, that takes pairs of bytes alone; there are applications that send lists.
    others: list[Any] = list(headers)
    try:
        return any(value == b"0" and name.lower() == b"content-length" for name, value in others)
    except (TypeError, ValueError, AttributeError):
        return False  # no pairs of bytes: for the server to refuse


def _length(headers: list[Any]) -> int:
    """Read a response's content-length."""
    try:
        for name, value in headers:
            if name.lower() == b"content-length":
                return int(value) if value.isdigit() and len(value) <= _DIGITS else _UNKNOWN
    except (TypeError, ValueError, AttributeError):
        pass  # no pairs of bytes: for the server to refuse
    return _UNKNOWN


def _awaits_trailers(scope: Scope) -> bool:
    """Whether the server holds the response open for trailers: it can, and the client said that it reads them."""
    try:
        return _TRAILERS in scope["extensions"] and any(name == b"te" and b"trailers" in value.lower() for name, value in scope["headers"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _size(body: object) -> int:
    """Give a body's bytes; 0 where it is nothing that a server takes."""
    try:
        return memoryview(body).nbytes  # type: ignore[arg-type]
    except TypeError:
        return 0


def _file_size(file: Any) -> int:
    """Give the bytes of a file that the server sends by itself; 0 where nobody can tell."""
    try:
        return os.stat(file).st_size
    except (OSError, TypeError, ValueError):
        return 0


def _rest(message: dict[str, Any]) -> int:
    """Give the bytes from where the server begins to the end of an open file."""
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
    """Give a count of bytes; 0 for what is none, which the server refuses."""
    try:
        return max(0, index(number))  # type: ignore[arg-type]
    except TypeError:
        return 0
