"""A worker passes scrapes on to the exporter of its directory, and does without it where it does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest

from monitoring.exporter.server import Limits, Server
from monitoring.scrape import relay as module
from monitoring.scrape import worker_socket
from monitoring.scrape.endpoint import Scrapes
from monitoring.scrape.relay import ROOM_BYTES, CutError, Relay
from monitoring.scrape.response import Answer, plain
from monitoring.scrape.worker_socket import NAME, Rendezvous
from tests.fake_exporter import impostor
from tests.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from monitoring.exporter.connection import Request

LARGE = bytes(range(256)) * 40_000


class Exporter:
    """The exporter's two halves in a thread, with an application that answers as the query says."""

    def __init__(self, directory: Path) -> None:
        self.requests: list[Request] = []
        self.waiting: list[Callable[[Answer], None]] = []
        self.server = Server(self.app, Limits())
        self.rendezvous = Rendezvous(lambda: directory, lambda sock: self.server.listen(sock, trusted=True), self.server.unlisten)
        self.server.every_second(self.rendezvous.tend)
        self.server.on_leave(self.rendezvous.leave)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        wait_until((directory / NAME).exists, "the socket")

    def app(self, request: Request, done: Callable[[Answer], None]) -> Answer | None:
        self.requests.append(request)
        if request.query == b"later":
            self.waiting.append(done)
            return None
        if request.query == b"busy":
            return plain(503, b"busy\n", (b"retry-after", b"1"))
        body = LARGE if request.query == b"large" else b"a 1\n"
        return Answer(200, [(b"content-type", b"text/x"), (b"content-length", b"%d" % len(body)), (b"vary", b"Accept")], body)

    def end(self) -> None:
        self.server.soon(lambda: self.server.leave(1.0))
        self.server._wake()
        self.thread.join()
        self.server._wake_writer.close()


@pytest.fixture
def directory(metrics_directory: Path) -> Path:
    """Give a path that is longer than a socket's may be."""
    path = metrics_directory / ("x" * 120)
    path.mkdir(0o700)
    return path


@pytest.fixture
def exporter(directory: Path) -> Iterator[Exporter]:
    made = Exporter(directory)
    yield made
    made.end()


class Sent(list[dict[str, Any]]):
    """What an ASGI application has sent."""

    async def __call__(self, message: dict[str, Any]) -> None:
        self.append(message)

    @property
    def status(self) -> int:
        return int(self[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self[1:])


def scope(query: bytes = b"", method: str = "GET") -> dict[str, Any]:
    return {"type": "http", "method": method, "query_string": query, "headers": []}


def passed(directory: Path, query: bytes = b"", method: str = "GET", *, room: int = ROOM_BYTES, **headers: bytes) -> Sent | None:
    """Relay one scrape; None where no exporter answered."""
    sent, relay = Sent(), Relay(room)
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    if asyncio.run(relay(str(directory), scope(query, method), named, sent)):
        return sent
    assert sent == []
    return None


def test_the_socket_is_ours_alone(exporter: Exporter, directory: Path) -> None:
    found = (directory / NAME).lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert [entry.name for entry in directory.iterdir()] == [NAME]
    assert exporter.requests == []


def test_what_the_scraper_asks_and_what_the_exporter_answers_is_passed(exporter: Exporter, directory: Path) -> None:
    sent = passed(directory, b"name[]=a&name[]=b", accept=b"text/plain", accept_encoding=b"gzip", authorization=b"Bearer x", cookie=b"y")
    assert sent is not None
    assert dict(sent[0]["headers"]) == {b"content-type": b"text/x", b"content-length": b"4", b"vary": b"Accept"}
    assert (sent.status, sent.body) == (200, b"a 1\n")
    (request,) = exporter.requests
    assert (request.path, request.query, request.trusted) == (b"/metrics", b"name[]=a&name[]=b", True)
    assert request.headers == {b"host": b"exporter", b"accept": b"text/plain", b"accept-encoding": b"gzip"}
    head = passed(directory, method="HEAD")
    assert head is not None
    assert (dict(head[0]["headers"])[b"content-length"], head.body) == (b"4", b"")
    busy = passed(directory, b"busy")
    assert busy is not None
    assert (busy.status, dict(busy[0]["headers"])[b"retry-after"]) == (503, b"1")


@pytest.mark.parametrize("room", [len(LARGE), len(LARGE) - 1], ids=["whole", "through"])
def test_a_large_answer_is_passed_in_pieces(room: int, exporter: Exporter, directory: Path) -> None:
    sent = passed(directory, b"large", room=room)
    assert sent is not None
    assert sent.body == LARGE
    assert max(len(message["body"]) for message in sent[1:]) <= 1 << 16
    assert [message["more_body"] for message in sent[-2:]] == [True, False]
    assert len(exporter.requests) == 1


def test_what_slow_scrapers_have_not_taken_is_bounded(exporter: Exporter, directory: Path) -> None:
    """Three at once where two have room: two have the whole answer before they begin, whatever happens to the exporter."""
    relay = Relay(2 * len(LARGE))
    go = asyncio.Event()

    class Slow(Sent):
        def __init__(self) -> None:
            super().__init__()
            self.begun = asyncio.Event()

        async def __call__(self, message: dict[str, Any]) -> None:
            await super().__call__(message)
            self.begun.set()
            await go.wait()

    async def all_three() -> tuple[list[Slow], list[bool | BaseException]]:
        sents = [Slow() for _ in range(3)]
        tasks = [asyncio.create_task(relay(str(directory), scope(b"large"), {}, sent)) for sent in sents]
        for sent in sents:
            await sent.begun.wait()
        assert relay._room == 0
        for connection in list(exporter.server._connections):
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)  # what its death does to whoever has not read all
        go.set()
        return sents, await asyncio.gather(*tasks, return_exceptions=True)

    sents, outcomes = asyncio.run(all_three())
    assert sorted(sent.body == LARGE for sent in sents) == [False, True, True]
    assert [outcome for outcome in outcomes if isinstance(outcome, CutError)] == [outcomes[[s.body == LARGE for s in sents].index(False)]]
    assert relay._room == 2 * len(LARGE), "all of it is given back"


def test_a_merge_that_takes_long_is_waited_for(exporter: Exporter, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REACH_SECONDS", 0.3)

    def answer() -> None:
        wait_until(lambda: exporter.waiting, "it waits")
        threading.Event().wait(1.0)
        exporter.waiting.pop()(plain(200, b"late"))

    thread = threading.Thread(target=answer)
    thread.start()
    sent = passed(directory, b"later")
    thread.join()
    assert sent is not None
    assert sent.body == b"late"


def test_an_exporter_that_never_finishes_is_given_up(exporter: Exporter, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MERGE_SECONDS", 0.2)
    assert passed(directory, b"later") is None
    exporter.waiting.pop()(plain(200, b"too late"))


def test_one_that_is_not_there_is_not_waited_for(directory: Path) -> None:
    assert passed(directory / "missing") is None
    assert passed(directory) is None
    (directory / NAME).write_bytes(b"")
    assert passed(directory) is None
    (directory / NAME).unlink()
    with socket.socket(socket.AF_UNIX) as dead, worker_socket._opened(directory) as fd:
        dead.bind(worker_socket._path(fd, NAME))
    assert passed(directory) is None


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + b"half" * 1_000_000,
        b"HTTP/1.1 200 OK\r\na: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
)
def test_one_that_dies_before_its_answer_is_whole_costs_no_scrape(says: bytes, directory: Path) -> None:
    with impostor(directory, says):
        assert passed(directory) is None


def test_an_answer_that_ends_half_way_is_cut_and_not_taken_for_whole(directory: Path) -> None:
    with impostor(directory, b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\nhalf"), pytest.raises(CutError):
        passed(directory)


def test_one_that_hangs_is_given_up(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REACH_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as hung, worker_socket._opened(directory) as fd:
        hung.bind(worker_socket._path(fd, NAME))
        hung.listen(0)
        for _ in range(3):  # the third finds a full queue
            assert passed(directory) is None


def test_another_users_socket_is_not_believed(exporter: Exporter, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert passed(directory) is not None
    monkeypatch.setattr(worker_socket, "_CREDENTIALS", Strangers())
    assert passed(directory) is None
    assert len(exporter.requests) == 1


class Strangers:
    """What the kernel says of a peer that is neither root nor us."""

    size = 12

    def unpack(self, said: bytes) -> tuple[int, int, int]:
        pid, user, group = struct.unpack("iII", said)
        return pid, user + 4711, group


def test_a_new_exporter_takes_the_place_and_the_old_leaves_it_alone(directory: Path) -> None:
    old = Exporter(directory)
    first = (directory / NAME).lstat().st_ino
    new = Exporter(directory)
    wait_until(lambda: (directory / NAME).lstat().st_ino != first, "the new one's socket")
    old.end()
    assert passed(directory) is not None
    assert len(new.requests) == 1
    new.end()
    assert list(directory.iterdir()) == []


def test_the_old_exporter_comes_back_when_the_new_one_leaves(directory: Path) -> None:
    old = Exporter(directory)
    first = (directory / NAME).lstat().st_ino
    new = Exporter(directory)
    wait_until(lambda: (directory / NAME).lstat().st_ino != first, "the new one's socket")
    new.end()
    wait_until(lambda: passed(directory) is not None, "the old one is found again")
    assert old.requests
    old.end()


def test_the_directory_is_followed_when_it_is_made_anew(exporter: Exporter, directory: Path) -> None:
    (directory / NAME).unlink()
    directory.rmdir()
    directory.mkdir(0o700)
    wait_until(lambda: passed(directory) is not None, "found in the new directory")
    assert exporter.requests


def test_a_worker_merges_only_while_there_is_no_exporter(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))
    scrapes = Scrapes()
    merged: list[bool] = []

    def render(openmetrics: bool) -> bytes:
        merged.append(openmetrics)
        return b"own 1\n"

    monkeypatch.setattr(scrapes._merges, "_render", render)

    async def ask() -> Sent:
        sent = Sent()
        await scrapes(scope(), sent, sent)
        return sent

    assert asyncio.run(ask()).body == b"own 1\n"
    exporter = Exporter(directory)
    try:
        scrapes._collector = object()  # type: ignore[assignment]
        assert asyncio.run(ask()).body == b"a 1\n"
        assert scrapes._collector is None
    finally:
        exporter.end()
    assert asyncio.run(ask()).body == b"own 1\n"
    assert len(merged) == 2


def test_many_scrapes_of_one_worker_are_answered_few_in_flight(
    exporter: Exporter, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))

    async def all_at_once() -> list[Sent]:
        scrapes = Scrapes()
        sents = [Sent() for _ in range(200)]
        await asyncio.gather(*(scrapes(scope(), sent, sent) for sent in sents))
        return sents

    assert [sent.status for sent in asyncio.run(all_at_once())] == [200] * 200
    assert len(exporter.requests) == 200
