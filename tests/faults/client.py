"""An HTTP client that knows what it knows: sent, acknowledged, refused, unknown.

acknowledged: the complete response was read. refused: the connection was not made, nothing was
sent. unknown: sent, and the answer never came whole. So a true counter lies between acknowledged
and sent.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

Address = tuple[str, int]
TIMEOUT_SECONDS = 90.0


class IncompleteError(OSError):
    """The connection ended before the response was complete."""


@dataclass(frozen=True)
class Request:
    """One request; `endpoint` is the route template that its samples carry."""

    method: str
    path: str
    endpoint: str = ""
    body: bytes = b""

    @property
    def key(self) -> tuple[str, str]:
        """The labels that the request's samples carry."""
        return self.method, self.endpoint or self.path


@dataclass(frozen=True)
class Response:
    """A response that was read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One keep-alive connection; refuses to guess where a response ends."""

    def __init__(self, address: Address, timeout: float = TIMEOUT_SECONDS) -> None:
        self._socket = socket.create_connection(address, timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, request: Request) -> None:
        """Send the whole request."""
        head = f"{request.method} {request.path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(request.body)}\r\n\r\n"
        self._socket.sendall(head.encode() + request.body)

    def receive(self, method: str) -> Response:
        """Read one complete response."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if method == "HEAD" or status in {204, 304}:
            body = b""
        elif "chunked" in headers.get("transfer-encoding", ""):
            body = b"".join(iter(self._chunk, b""))
        elif "content-length" in headers:
            body = self._exactly(int(headers["content-length"]))
        else:
            body = self._rest()
        return Response(status, headers, body)

    def some(self) -> bytes:
        """Read what comes next, at least one byte."""
        if not self._buffer:
            self._fill()
        piece, self._buffer = self._buffer, b""
        return piece

    def _fill(self) -> None:
        piece = self._socket.recv(65536)
        if not piece:
            message = "the connection ended before the response was complete"
            raise IncompleteError(message)
        self._buffer += piece

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._fill()
        piece, _, self._buffer = self._buffer.partition(end)
        return piece

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        return piece

    def _chunk(self) -> bytes:
        size = int(self._until(b"\r\n"), 16)
        return self._exactly(size + 2)[:size]

    def _rest(self) -> bytes:
        try:
            while True:
                self._fill()
        except IncompleteError:
            piece, self._buffer = self._buffer, b""
            return piece


def fetch(address: Address, path: str, method: str = "GET", body: bytes = b"") -> Response:
    """Make one request outside of any count."""
    with Connection(address) as connection:
        connection.send(Request(method, path, body=body))
        return connection.receive(method)


@dataclass
class Tally:
    """What a client knows about its requests, by (method, endpoint)."""

    sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    acknowledged: Counter[tuple[str, str]] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)
    refused: int = 0

    def add(self, other: Tally) -> None:
        """Take in what another client knows."""
        self.sent.update(other.sent)
        self.acknowledged.update(other.acknowledged)
        self.statuses.update(other.statuses)
        self.bodies.extend(other.bodies)
        self.refused += other.refused

    def call(self, address: Address, request: Request) -> Response:
        """Make one counted request on a connection of its own."""
        with Connection(address) as connection:
            return self.call_on(connection, request)

    def call_on(self, connection: Connection, request: Request) -> Response:
        """Make one counted request on a connection that is open."""
        self.sent[request.key] += 1
        connection.send(request)
        response = connection.receive(request.method)
        self.acknowledged[request.key] += 1
        self.statuses[response.status] += 1
        return response


ORDINARY = (
    Request("GET", "/ok"),
    Request("HEAD", "/ok"),
    Request("GET", "/stream"),
    Request("GET", "/nocontent"),
    Request("POST", "/echo", body=b"x" * 300),
)


class Client:
    """Threads that send requests until the block ends; `tally` is whole after it."""

    def __init__(self, address: Address, requests: Sequence[Request] = ORDINARY, *, threads: int = 4, keep: int = 7) -> None:
        self.tally = Tally()
        self._address = address
        self._requests = requests
        self._keep = keep
        self._stopping = threading.Event()
        self._tallies = [Tally() for _ in range(threads)]
        self._threads = [
            threading.Thread(target=self._run, args=(number, tally), name=f"client-{number}") for number, tally in enumerate(self._tallies)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for tally in self._tallies:
            self.tally.add(tally)

    @property
    def acknowledged(self) -> int:
        """How many requests were answered so far."""
        return sum(sum(list(tally.acknowledged.values())) for tally in self._tallies)

    def wait_answered(self, more: int) -> None:
        """Wait until so many more requests were answered: a fault needs load before and after it."""
        goal = self.acknowledged + more
        wait_until(lambda: self.acknowledged >= goal, f"{more} more requests answered")

    def stop(self) -> None:
        """Let the threads end after the request that each is at."""
        self._stopping.set()

    @property
    def refused(self) -> int:
        """How many connections were refused so far."""
        return sum(tally.refused for tally in self._tallies)

    def _run(self, number: int, tally: Tally) -> None:
        requests = itertools.islice(itertools.cycle(self._requests), number, None)
        while not self._stopping.is_set():
            try:
                connection = Connection(self._address)
            except ConnectionRefusedError:
                tally.refused += 1
                time.sleep(0.01)
                continue
            except OSError:
                # Reset in the middle of the handshake: nothing was sent either.
                continue
            with connection:
                self._converse(connection, requests, tally)

    def _converse(self, connection: Connection, requests: itertools.islice[Request], tally: Tally) -> None:
        for request in itertools.islice(requests, self._keep):
            try:
                response = tally.call_on(connection, request)
            except OSError:
                # Sent at least in part and not answered whole: the tally says unknown by itself.
                return
            if self._stopping.is_set() or response.headers.get("connection") == "close":
                return
            time.sleep(0.002)
