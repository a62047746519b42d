"""One connection of the exporter: reads one request, writes one answer, closes.

A connection never waits for its peer without a deadline, keeps no more of a request than the limit of its head, and shares the
bytes of its answer with all connections that get the same answer.
"""

import enum
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from monitoring.scrape.response import Answer, plain

HEAD_BYTES = 65_536
"""The limit of a request line and its headers, long lists of names included."""

_READ_BYTES = 65_536
_END = b"\r\n\r\n"
_CONTROL = bytes({*range(32), 127} - set(b"\t"))
_LIMIT = HEAD_BYTES + len(_END)
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
"""Sent to a worker at once, so that it can distinguish a slow merge from an exporter that hangs."""


class Request(NamedTuple):
    """The head of a request. `trusted` means that it came through a socket that only this user can connect to."""

    method: str
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    trusted: bool


class State(enum.Enum):
    """The steps of an exchange."""

    READING = enum.auto()
    MERGING = enum.auto()
    WRITING = enum.auto()
    DRAINING = enum.auto()  # the answer is sent; closing before the peer has sent its rest would reset the connection


class Connection:
    """A socket and the state of its one exchange. `deadline` is in seconds of the monotonic clock."""

    __slots__ = ("_head_only", "_more", "_out", "_received", "answer", "deadline", "sock", "state", "trusted", "until")

    def __init__(self, sock: socket.socket, *, trusted: bool, seconds: float) -> None:
        """The whole head must arrive within `seconds`."""
        self.sock = sock
        self.trusted = trusted
        self.state = State.READING
        self.deadline = self.until = time.monotonic() + seconds
        self.answer: Answer | None = None
        self._received = bytearray()
        self._out: list[memoryview] = []
        self._head_only = False
        self._more = False

    def read(self) -> Request | Answer | None:
        """Read more. Return the request once it is complete, or the answer to a malformed one. Raise OSError if the peer has left."""
        data = self.sock.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError
        seen = max(0, len(self._received) - len(_END) + 1)
        self._received += data
        end = self._received.find(_END, seen, _LIMIT)
        if end < 0 and len(self._received) < _LIMIT:
            return None
        received, self._received = self._received, bytearray()
        if end < 0:
            self._more = True
            return plain(431, b"the request line and headers are too long\n")
        self._more = len(received) > end + len(_END)
        return self._parse(bytes(received[:end]))

    def _parse(self, head: bytes) -> Request | Answer:
        first, *lines = head.split(b"\r\n")
        words = first.split(b" ")
        headers: dict[bytes, bytes] = {}
        text = head.replace(b"\r\n", b"")
        sound = text == text.translate(None, _CONTROL) and len(words) == 3 and words[0].isalpha() and words[2] in {b"HTTP/1.1", b"HTTP/1.0"}
        for line in lines:
            name, colon, value = line.partition(b":")
            sound = sound and bool(name and colon) and name == name.strip()
            name, value = name.lower(), value.strip()
            headers[name] = headers[name] + b"," + value if name in headers else value
        if not sound:
            self._more = True
            return plain(400, b"malformed HTTP/1.1 request\n")
        method, target, _ = words
        self._head_only = method == b"HEAD"
        self._more = self._more or b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        if target[:7].lower() == b"http://":
            target = b"/" + target[7:].partition(b"/")[2]
        path, _, query = target.partition(b"?")
        return Request(method.decode("ascii"), path, query, headers, self.trusted)

    def begin(self, answer: Answer) -> None:
        """Prepare an answer for writing. Its headers announce that the connection closes after it."""
        reason = HTTPStatus(answer.status).phrase.encode()
        lines = [b"HTTP/1.1 %d %s" % (answer.status, reason), time.strftime("date: %a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode()]
        lines += [name + b": " + value for name, value in answer.headers]
        head = b"\r\n".join([*lines, b"connection: close", b"", b""])
        self.answer = answer
        self._out = [memoryview(head)]
        if answer.body and not self._head_only:
            self._out.append(memoryview(answer.body))
        self.state = State.WRITING

    def write(self) -> bool:
        """Write as much as the peer takes now. Return whether it took anything. Once all is written, the state is DRAINING."""
        took = False
        while self._out:
            try:
                sent = self.sock.sendmsg(self._out)
            except BlockingIOError:
                return took
            took = True
            while self._out and sent >= len(self._out[0]):
                sent -= len(self._out.pop(0))
            if sent:
                self._out[0] = self._out[0][sent:]
        self.answer = None
        self.state = State.DRAINING
        if self._more:
            self.sock.shutdown(socket.SHUT_WR)
        return took

    @property
    def finished(self) -> bool:
        """Whether closing it cannot reset the connection, and so cut the answer: nothing more has arrived."""
        if self.state is not State.DRAINING or self._more:
            return False
        try:
            self._more = bool(self.sock.recv(_READ_BYTES))
        except BlockingIOError:
            return True
        if self._more:
            self.sock.shutdown(socket.SHUT_WR)
        return not self._more

    def drain(self) -> None:
        """Read and drop data. Raise OSError once the peer has closed."""
        if not self.sock.recv(_READ_BYTES):
            raise ConnectionResetError


App = Callable[[Request, Callable[[Answer], None]], Answer | None]
"""Returns the answer to a request, or None, and later passes the answer to the function, from any thread."""
