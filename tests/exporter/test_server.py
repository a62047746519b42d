"""The exporter's own HTTP server, over real sockets, with limits small enough to reach."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from monitoring.exporter.connection import HEAD_BYTES, PROCESSING, Request
from monitoring.exporter.server import Limits, Server
from monitoring.scrape.response import Answer, plain
from tests.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 64 << 20
SHORT = Limits(head=0.3, stalled=0.3, answer=60.0, drain=0.3)


class Serving:
    """A server in a thread, with an application that answers as the path says."""

    def __init__(self, limits: Limits) -> None:
        self.requests: list[Request] = []
        self.waiting: list[Callable[[Answer], None]] = []
        self.large = bytes(LARGE)
        self.server = Server(self.app, limits)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = self.listening.getsockname()
        self.server.listen(self.listening)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()

    def app(self, request: Request, done: Callable[[Answer], None]) -> Answer | None:
        self.requests.append(request)
        if request.path == b"/later":
            self.waiting.append(done)
            return None
        if request.path == b"/large":
            return Answer(200, [(b"content-length", b"%d" % LARGE)], self.large)
        if request.path == b"/other":
            return Answer(200, [(b"content-length", b"%d" % LARGE)], bytes(LARGE))
        return plain(200, request.path + b" " + request.query)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=60)

    def send(self, data: bytes) -> socket.socket:
        client = self.connect()
        client.sendall(data)
        return client

    def ask(self, data: bytes) -> bytes:
        with self.send(data) as client:
            return everything(client)

    @property
    def connections(self) -> int:
        return len(self.server._connections)

    def end(self) -> None:
        self.server.soon(lambda: self.server.leave(1.0))
        self.server._wake()
        self.thread.join()
        self.server._wake_writer.close()


def everything(client: socket.socket) -> bytes:
    """Read to the end; a reset raises."""
    pieces = []
    while piece := client.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def sip(client: socket.socket) -> None:
    """Read slowly, for half a minute at most."""
    pause = threading.Event()
    for _ in range(3000):
        client.recv(1000)
        pause.wait(0.01)


@contextlib.contextmanager
def running(limits: Limits | None = None) -> Iterator[Serving]:
    made = Serving(limits or Limits())
    try:
        yield made
    finally:
        made.end()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_one_request_is_answered_and_the_connection_closed() -> None:
    with running() as serving:
        head, _, body = serving.ask(b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nX: 1\r\nx:  2 \r\n\r\n").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
        assert head.endswith(b"\r\nconnection: close")
        assert body == b"/a b=c"
        assert serving.requests == [Request("GET", b"/a", b"b=c", {b"host": b"x", b"x": b"1,2"}, trusted=False)]
        assert serving.ask(b"HEAD /a HTTP/1.0\r\n\r\n").endswith(b"connection: close\r\n\r\n")
        assert serving.ask(b"GET http://host:1/abs?q HTTP/1.1\r\nHost: x\r\n\r\n").endswith(b"/abs q")


def test_it_comes_in_pieces() -> None:
    with running() as serving, serving.connect() as client:
        for at in range(len(GET)):
            client.sendall(GET[at : at + 1])
        assert status(everything(client)) == 200


def test_pipelined_requests_and_bodies_do_not_reset_the_answer() -> None:
    body = b"x" * 300_000
    with running() as serving:
        assert status(serving.ask(GET + GET + GET)) == 200
        for extra in (b"Content-Length: 300000\r\n", b"Transfer-Encoding: chunked\r\n"):
            with serving.send(b"POST /p HTTP/1.1\r\nHost: x\r\n" + extra + b"\r\n") as client:
                client.sendall(body)
                client.shutdown(socket.SHUT_WR)
                assert status(everything(client)) == 200


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1 x\r\n\r\n", 400),
        (b"G@T / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\nB: c\r\n\r\n", 400),
        (b"GET /\0 HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA:\tb\xff\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n: x\r\n\r\n", 400),
        (b"GET /" + b"a" * HEAD_BYTES, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * (2 * HEAD_BYTES), 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (HEAD_BYTES // 6 + 1) + b"\r\n", 431),
        (b"GET /" + b"a" * (HEAD_BYTES - 100) + b" HTTP/1.1\r\n\r\n", 200),
    ],
)
def test_what_is_no_request(data: bytes, expected: int) -> None:
    with running() as serving:
        assert status(serving.ask(data)) == expected
        assert status(serving.ask(GET)) == 200


def test_half_open_connections_are_given_up() -> None:
    with running(SHORT) as serving, serving.connect() as silent, serving.send(GET[:-1]) as half:
        for client in (silent, half):
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        wait_until(lambda: serving.connections == 0, "no connections")
        assert status(serving.ask(GET)) == 200


def test_a_reader_that_stops_is_cut_and_one_that_is_slow_is_not() -> None:
    with running(SHORT) as serving, serving.send(GET.replace(b"metrics", b"large")) as stopped:
        with serving.send(GET.replace(b"metrics", b"large")) as slow:
            pieces = 0
            pause = threading.Event()
            while pieces < LARGE:
                pieces += len(slow.recv(4 << 20))
                pause.wait(0.005)
            assert pieces >= LARGE
        wait_until(lambda: serving.connections == 0, "the stopped reader is cut")
        with pytest.raises(ConnectionResetError):
            everything(stopped)


def test_no_reader_takes_longer_than_the_limit() -> None:
    limits = replace(SHORT, answer=0.5, stalled=60.0)
    with running(limits) as serving, serving.send(GET.replace(b"metrics", b"large")) as slow, pytest.raises(ConnectionResetError):
        sip(slow)


def test_what_stopped_readers_hold_is_bounded() -> None:
    """Eight stopped readers of one answer hold it once; of eight different ones, the slowest are cut."""
    with running(replace(Limits(), held_bytes=5 * LARGE)) as serving, contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(serving.send(GET.replace(b"metrics", b"large")))
        wait_until(lambda: len(serving.requests) == 8, "all asked")
        assert serving.connections == 8
    with running(replace(Limits(), held_bytes=5 * LARGE)) as serving, contextlib.ExitStack() as stack:
        others = [stack.enter_context(serving.send(GET.replace(b"metrics", b"other"))) for _ in range(8)]
        wait_until(lambda: len(serving.requests) == 8 and serving.connections == 5, "three are cut")
        cut = 0
        for other in others:
            with contextlib.suppress(ConnectionResetError):
                assert len(everything(other)) > LARGE
                continue
            cut += 1
        assert cut == 3


def test_past_the_limit_scrapes_are_503_and_health_is_answered() -> None:
    with running(replace(Limits(), scrapes=3)) as serving, contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(serving.send(GET.replace(b"metrics", b"later"))) for _ in range(3)]
        wait_until(lambda: len(serving.waiting) == 3, "three wait")
        refused = serving.ask(GET)
        assert status(refused) == 503
        assert b"\r\nretry-after: 1\r\n" in refused
        assert status(serving.ask(b"GET /healthz HTTP/1.1\r\n\r\n")) == 200
        for done in serving.waiting:
            done(plain(200, b"now"))
        assert [status(everything(client)) for client in waiting] == [200] * 3
        assert status(serving.ask(GET)) == 200


def test_a_flood_of_silent_connections_shuts_nobody_out() -> None:
    with running(replace(Limits(), connections=8)) as serving, contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(serving.connect())
            assert serving.connections <= 8
        assert status(serving.ask(GET)) == 200


def test_one_who_leaves_while_he_waits_disturbs_nobody() -> None:
    with running() as serving:
        client = serving.send(GET.replace(b"metrics", b"later"))
        wait_until(lambda: serving.waiting, "it waits")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        serving.waiting.pop()(Answer(200, [], bytes(LARGE)))
        wait_until(lambda: serving.connections == 0, "it is dropped")
        assert serving.server._merging == 0
        assert status(serving.ask(GET)) == 200


def test_one_who_has_closed_his_end_is_answered() -> None:
    with running() as serving, serving.send(GET.replace(b"metrics", b"later")) as client:
        client.shutdown(socket.SHUT_WR)
        wait_until(lambda: serving.waiting, "it waits")
        serving.waiting.pop()(plain(200, b"now"))
        assert status(everything(client)) == 200


def test_a_leaving_server_answers_who_waits_in_its_queue_and_then_refuses() -> None:
    serving = Serving(Limits())
    clients: list[socket.socket] = []

    def leave() -> None:
        clients.append(serving.send(GET))  # in the loop's own thread: nobody can have accepted it
        clients.append(serving.connect())
        serving.server.leave(30.0)

    with serving.send(GET.replace(b"metrics", b"later")) as waits:
        wait_until(lambda: serving.waiting, "it waits")
        serving.server.soon(leave)
        serving.server._wake()
        wait_until(lambda: len(clients) == 2 and not serving.server._listening, "it leaves")
        with pytest.raises(ConnectionRefusedError):
            serving.connect()
        asked, silent = clients
        with asked, silent:
            assert status(everything(asked)) == 200
            silent.sendall(GET)
            assert status(everything(silent)) == 200
        serving.waiting.pop()(plain(200, b"now"))
        assert status(everything(waits)) == 200
    serving.end()
    assert not serving.thread.is_alive()


def test_through_a_trusted_socket_word_comes_at_once() -> None:
    with running() as serving:
        ours, listening = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        listening.bind(b"")
        listening.listen()
        serving.server.soon(lambda: serving.server.listen(listening, trusted=True))
        serving.server._wake()
        with ours:
            ours.settimeout(60)
            ours.connect(listening.getsockname())
            ours.sendall(GET.replace(b"metrics", b"later"))
            assert ours.recv(1000) == PROCESSING
            assert serving.requests[0].trusted
            serving.waiting.pop()(plain(200, b"now"))
            assert status(everything(ours)) == 200
