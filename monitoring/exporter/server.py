"""A small HTTP server for an exporter: one loop over all sockets, which never waits and never merges.

Slow answers come from another thread. The number of connections, their time, and the memory held for slow readers are bounded. A
leaving server answers the connections that it has accepted. docs/decisions/0005 has the reasons for a server of its own.
"""

import contextlib
import errno
import resource
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from monitoring.exporter.connection import PROCESSING, App, Connection, State
from monitoring.scrape.response import Answer, plain

_ACCEPTS = 64
_SWEEP_SECONDS = 0.25
_ABORT = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 s


@dataclass(frozen=True)
class Limits:
    """The limits of a server. Times are in seconds."""

    connections: int = 512
    scrapes: int = 128
    head: float = 10.0
    stalled: float = 10.0
    answer: float = 60.0
    drain: float = 2.0
    leave_unread: float = 2.0
    held_bytes: int = 64 << 20


class Server:
    """Serves an application on listening sockets until it leaves."""

    def __init__(self, app: App, limits: Limits | None = None) -> None:
        self._app = app
        self._limits = limits or Limits()
        self._most = min(self._limits.connections, max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._selector = selectors.DefaultSelector()
        self._connections: dict[Connection, None] = {}
        self._merging = 0
        self._listening: dict[socket.socket, bool] = {}
        self._finished: deque[tuple[Connection, Answer]] = deque()
        self._ticks: list[tuple[float, Callable[[], None]]] = []
        self._soon: list[Callable[[], None]] = []
        self._on_leave: list[Callable[[], None]] = []
        self._leave_by: float | None = None
        self._leave_at: float | None = None
        self._leave_seconds = 0.0
        self._swept = 0.0
        self._wake_reader, self._wake_writer = socket.socketpair()
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        self.watch(self._wake_reader, self._woken)

    def listen(self, sock: socket.socket, *, trusted: bool = False) -> None:
        """Accept connections on a socket. `trusted` means that only this user can connect to it."""
        sock.setblocking(False)
        self._listening[sock] = trusted
        self._selector.register(sock, selectors.EVENT_READ, partial(self._accept, sock))

    def unlisten(self, sock: socket.socket) -> None:
        """Accept the connections that wait already, and close the socket."""
        if sock in self._listening:
            self._accept(sock)
            self._selector.unregister(sock)
            del self._listening[sock]
            sock.close()

    def watch(self, fd: int | socket.socket, ready: Callable[[], None]) -> None:
        """Call `ready` in the loop whenever the descriptor is readable."""
        self._selector.register(fd, selectors.EVENT_READ, ready)

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor."""
        self._selector.unregister(fd)

    def every_second(self, call: Callable[[], None]) -> None:
        """Call this in the loop, now and then once a second."""
        self._ticks.append((0.0, call))

    def soon(self, call: Callable[[], None]) -> None:
        """Call this once in the loop, after the connections that wait already have been accepted."""
        self._soon.append(call)

    def on_leave(self, call: Callable[[], None]) -> None:
        """Call this once when the server starts to leave."""
        self._on_leave.append(call)

    def leave_on(self, number: signal.Signals, seconds: float, linger: float = 0.0) -> None:
        """Leave `linger` seconds after a signal, or at once at a second one. Connections still open `seconds` later are cut."""

        def asked(*_: object) -> None:
            # Only note it: the loop may be anywhere when a signal arrives.
            self._leave_seconds = seconds
            self._leave_at = time.monotonic() + (linger if self._leave_at is None else 0.0)

        signal.signal(number, asked)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)

    def leave(self, seconds: float) -> None:
        """Stop accepting, answer the accepted connections, and end after `seconds` at the latest."""
        while self._on_leave:
            self._on_leave.pop()()
        for sock in list(self._listening):
            self.unlisten(sock)
        now = time.monotonic()
        self._leave_by = min(now + seconds, self._leave_by or now + seconds)
        for connection in self._connections:
            if connection.state is State.READING:
                connection.deadline = min(connection.deadline, now + self._limits.leave_unread)

    def run(self) -> None:
        """Serve until `leave()` has been called and every connection is answered."""
        while self._leave_by is None or (self._connections and time.monotonic() < self._leave_by):
            for key, _ in self._selector.select(self._patience()):
                key.data()
            while self._finished:
                self._begin(*self._finished.popleft())
            if self._leave_by is None and self._leave_at is not None and time.monotonic() >= self._leave_at:
                self.leave(self._leave_seconds)
            self._keep_time()
        for connection in list(self._connections):
            self._drop(connection, abort=True)
        self._selector.close()
        self._wake_reader.close()  # the other end stays open: a merge may still write to it

    def _keep_time(self) -> None:
        now = time.monotonic()
        if now - self._swept >= _SWEEP_SECONDS:
            self._swept = now
            self._sweep(now)
        while self._soon:
            self._soon.pop()()
        for place, (due, call) in enumerate(self._ticks):
            if now >= due and self._leave_by is None:
                self._ticks[place] = (now + 1.0, call)
                call()

    def _patience(self) -> float:
        if self._soon:
            return 0.0
        now = time.monotonic()
        due = [due for due, _ in self._ticks] if self._leave_by is None else [self._leave_by]
        if self._leave_by is None and self._leave_at is not None:
            due.append(self._leave_at)
        if self._connections:
            due.append(now + _SWEEP_SECONDS)
        return max(0.0, min(due, default=now + 1.0) - now)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # full: it is awake; broken: it has ended
            self._wake_writer.send(b"\0")

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_reader.recv(4096)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, _ = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM} and not self._evict():
                    time.sleep(_SWEEP_SECONDS / 10)  # no connection can be dropped: do not spin
                continue
            if len(self._connections) >= self._most and not self._evict():
                sock.close()
                continue
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, trusted=self._listening[listening], seconds=self._limits.head)
            self._connections[connection] = None
            self._selector.register(sock, selectors.EVENT_READ, partial(self._step, connection))
            self._step(connection)

    def _evict(self) -> bool:
        """Drop the oldest connection without a request."""
        for connection in self._connections:
            if connection.state in {State.READING, State.DRAINING}:
                self._drop(connection, abort=True)
                return True
        return False

    def _step(self, connection: Connection) -> None:
        try:
            if connection.state is State.READING:
                self._read(connection)
            elif connection.state is State.WRITING:
                self._write(connection)
            elif connection.state is State.DRAINING:
                connection.drain()
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)

    def _read(self, connection: Connection) -> None:
        request = connection.read()
        if request is None:
            return
        if not isinstance(request, Answer):
            if self._merging >= self._limits.scrapes and request.path != b"/healthz":
                request = plain(503, b"too many scrapes at once\n", (b"retry-after", b"1"))
            else:
                connection.state = State.MERGING
                self._merging += 1
                answer = self._app(request, partial(self._answered, connection))
                if answer is None:
                    # A peer that leaves during the merge is noticed when the answer is written.
                    self._selector.unregister(connection.sock)
                    if connection.trusted:
                        connection.sock.send(PROCESSING)
                    return
                self._merging -= 1
                request = answer
        self._selector.unregister(connection.sock)
        self._start(connection, request)

    def _answered(self, connection: Connection, answer: Answer) -> None:
        """Receive an answer from another thread."""
        self._finished.append((connection, answer))
        self._wake()

    def _begin(self, connection: Connection, answer: Answer) -> None:
        if connection in self._connections:
            self._merging -= 1
            self._start(connection, answer)

    def _start(self, connection: Connection, answer: Answer) -> None:
        """Write an answer, and watch for the peer to take the rest of it."""
        now = time.monotonic()
        connection.begin(answer)
        connection.until = now + self._limits.answer
        connection.deadline = now + self._limits.stalled
        self._selector.register(connection.sock, selectors.EVENT_WRITE, partial(self._step, connection))
        try:
            self._write(connection)
        except OSError:
            self._drop(connection)
            return
        if connection.state is State.WRITING:
            self._relieve()

    def _write(self, connection: Connection) -> None:
        took = connection.write()
        now = time.monotonic()
        if connection.state is State.WRITING:
            if took:
                connection.deadline = min(now + self._limits.stalled, connection.until)
        elif connection.finished:
            self._drop(connection)
        else:
            connection.deadline = now + self._limits.drain
            self._selector.modify(connection.sock, selectors.EVENT_READ, partial(self._step, connection))

    def _relieve(self) -> None:
        """Cut the slowest readers if the answers that are held for them exceed the limit."""
        writing = [(connection, connection.answer.body) for connection in self._connections if connection.answer is not None]
        held = {id(body): len(body) for _, body in writing}
        for oldest in list(held):
            if len(held) <= 4 or sum(held.values()) <= self._limits.held_bytes:
                return
            for connection, body in writing:
                if id(body) == oldest:
                    self._drop(connection, abort=True)
            del held[oldest]

    def _sweep(self, now: float) -> None:
        for connection in list(self._connections):
            if connection.state is not State.MERGING and now >= connection.deadline:
                self._drop(connection, abort=connection.state is State.WRITING)

    def _drop(self, connection: Connection, *, abort: bool = False) -> None:
        if connection not in self._connections:
            return
        del self._connections[connection]
        if connection.state is State.MERGING:
            self._merging -= 1
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection.sock)
        if abort:
            with contextlib.suppress(OSError):
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        connection.sock.close()
