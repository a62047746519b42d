"""The exporter is killed, its master reloaded, replaced and killed, while scrapers of every habit scrape."""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest

from monitoring.exporter.server import Limits
from tests.fake_exporter import impostor
from tests.processes import command_line, is_alive, marked, parent, wait_dead, wait_until

from .client import Client, IncompleteError, fetch
from .harness import Variant
from .scraper import Scraper
from .scraper import http as source
from .verdict import assert_exact

if TYPE_CHECKING:
    from collections.abc import Callable

    from .bare_writers import Writers
    from .harness import Harness, Server

#: Kills, HUPs, and USR2s; `make proof` does all of them, `make test` fewer.
FULL, FEWER = (20, 5, 2), (8, 2, 2)


class Gaps:
    """A scraper that scrapes as fast as it is answered, and keeps its connection where the server lets it."""

    def __init__(self, port: int) -> None:
        self.answered: list[float] = []
        self.refused: list[str] = []
        self.cut = 0
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._connection.close()

    def longest(self, since: int = 0) -> float:
        """Give the longest time between two answers, in seconds."""
        return max(later - earlier for earlier, later in itertools.pairwise(self.answered[since:]))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._connection.request("GET", "/metrics")
                answer = self._connection.getresponse()
                if answer.status == 200 and answer.read():
                    self.answered.append(time.monotonic())
                else:
                    self.refused.append(f"status {answer.status}")
            except ConnectionRefusedError as error:
                self.refused.append(repr(error))
            except (OSError, http.client.HTTPException):
                self.cut += 1
                self._connection.close()


def exporters(server: Server) -> list[int]:
    return [pid for pid in marked(server.marker) if "monitoring.exporter" in command_line(pid)]


def exporter_of(server: Server, master: int) -> int:
    """Wait until a master has an exporter, and give it."""

    def found() -> list[int]:
        return [pid for pid in exporters(server) if parent(pid) == master]

    wait_until(found, f"master {master} has an exporter")
    return found()[0]


def upgrade(server: Server) -> None:
    """USR2, and the end of the old master."""
    old = server.master_in_charge()
    server.send(signal.SIGUSR2, old)
    wait_until(lambda: server.second_master() not in {0, old}, "a second master")
    new = server.second_master()
    exporter_of(server, new)
    wait_until(lambda: len(server.workers(new)) == 2, "its workers")
    server.send(signal.SIGTERM, old)
    wait_dead(old)
    wait_until(lambda: server.master_in_charge() == new, "it is in charge")


def test_kills_reloads_and_upgrades(
    harness: Harness, variant: Variant, proof: bool, record_property: Callable[[str, object], None]
) -> None:
    """Killed 20 times, HUP 5 times, USR2 twice: no connection is refused, and but for the kills no scrape is cut.

    What a worker passes on is not even cut by the kills.
    """
    kills, reloads, upgrades = FULL if proof else FEWER
    server = harness.gunicorn(variant, GRACEFUL_TIMEOUT="3")
    assert server.metrics is not None
    with Scraper(server.scrape, cuts=True) as scraper, Gaps(server.metrics[1]) as gaps, Client(server.address) as client:
        wait_until(lambda: len(gaps.answered) > 10, "scrapes")
        with Scraper(source(server.address)) as relayed:
            for _ in range(kills):
                killed = exporter_of(server, server.pid)
                seen = len(gaps.answered)
                os.kill(killed, signal.SIGKILL)
                wait_dead(killed)
                wait_until(lambda seen=seen: len(gaps.answered) > seen + 1, "scrapes after the kill")
        relayed.check()
        killing = gaps.longest()
        cut, seen = gaps.cut, len(gaps.answered)
        for _ in range(reloads):
            before = server.workers()
            server.send(signal.SIGHUP)
            wait_until(lambda before=before: len(server.workers()) == 2 and not set(before) & set(server.workers()), "new workers")
        for _ in range(upgrades):
            upgrade(server)
        last = len(gaps.answered)
        wait_until(lambda: len(gaps.answered) > last + 10, "scrapes")
        client.wait_answered(50)
    print(f"longest gap between two scrapes: {killing:.3f} s over {kills} kills, {gaps.longest(seen):.3f} s over HUP and USR2")
    record_property("longest_gap_kills_seconds", round(killing, 3))
    record_property("longest_gap_hup_usr2_seconds", round(gaps.longest(seen), 3))
    assert gaps.refused == []
    assert cut <= kills, "more scrapes were cut than exporters were killed"
    assert gaps.cut == cut, "a scrape was cut by HUP or USR2"
    scraper.check()
    assert_exact(server.samples(), client.tally)
    assert len(exporters(server)) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGQUIT])
def test_gone_with_the_master(
    number: signal.Signals, harness: Harness, variant: Variant, record_property: Callable[[str, object], None]
) -> None:
    """By whatever signal, also while connections are open that have not asked yet."""
    server = harness.gunicorn(variant)
    assert server.metrics is not None
    exporter = exporter_of(server, server.pid)
    with socket.create_connection(server.metrics) as silent, socket.create_connection(server.metrics) as half:
        half.sendall(b"GET /metrics HTTP/1.1\r\n")
        silent.setblocking(False)
        fetch(server.metrics, "/healthz")  # both are accepted
        server.send(number)
        assert server.process is not None
        server.process.wait(60)
        began = time.monotonic()
        wait_until(lambda: not is_alive(exporter), "the exporter ended")
        seconds = time.monotonic() - began
    print(f"the exporter ended {seconds:.3f} s after its master")
    record_property("gone_after_seconds", round(seconds, 3))
    assert seconds < Limits().leave_unread, "it took the time that only a living master leaves"
    if number is not signal.SIGQUIT:  # a master that quits waits for its exporter
        assert not list(harness.directory.glob("exporter.*")), "it left its socket"


def test_workers_answer_while_there_is_no_exporter(harness: Harness, variant: Variant) -> None:
    """A worker passes on what the exporter answers, and merges by itself while that hangs or is dead."""
    server = harness.gunicorn(variant)
    relayed = source(server.address)
    exporter = exporter_of(server, server.pid)
    wait_until((harness.directory / "exporter.sock").exists, "its socket")
    with Scraper(relayed, pause_seconds=0.01) as scraper, Client(server.address) as client:
        client.wait_answered(50)
        os.kill(exporter, signal.SIGSTOP)
        seen = len(scraper.history)
        wait_until(lambda: len(scraper.history) > seen + 2, "scrapes beside an exporter that hangs")
        os.kill(exporter, signal.SIGKILL)
        wait_dead(exporter)
        seen = len(scraper.history)
        wait_until(lambda: len(scraper.history) > seen + 10, "scrapes while another starts")
        exporter_of(server, server.pid)
        client.wait_answered(50)
    scraper.check()
    assert_exact(server.samples(), client.tally)


def test_an_exporter_killed_half_way_cuts_no_scrape_that_a_worker_passes_on(harness: Harness, variant: Variant, writers: Writers) -> None:
    """An answer that no buffer of the kernel's holds: the scraper has its head, the exporter dies, and the rest comes all the same."""
    server = harness.gunicorn(variant)
    writers.start().ask("series", 12_000, 1000)
    wait_until((harness.directory / "exporter.sock").exists, "its socket")
    exporter = exporter_of(server, server.pid)
    whole = len(fetch(server.address, "/metrics").body)
    assert whole > 12_000_000
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(server.address)
        slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
        answer = http.client.HTTPResponse(slow)
        answer.begin()
        assert answer.status == 200
        os.kill(exporter, signal.SIGKILL)
        wait_dead(exporter)
        body = answer.read()
        answer.close()
    assert len(body) == int(answer.headers["content-length"]) > 12_000_000
    assert body.endswith(b"\n")


@pytest.mark.parametrize("worker_class", ["", "asgi"])
def test_an_answer_that_cannot_be_finished_is_never_taken_for_whole(harness: Harness, worker_class: str) -> None:
    """One too large to be held: the scraper sees fewer bytes than it was promised, the worker lives on."""
    server = harness.gunicorn(Variant(preload=False, worker_class=worker_class), workers=1)
    (worker,) = server.workers()
    wait_until((harness.directory / "exporter.sock").exists, "its socket")
    says = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 99999999\r\n\r\n" + b"half 1\n" * 100_000
    with impostor(harness.directory, says):
        for _ in range(3):
            with pytest.raises((IncompleteError, ConnectionResetError)):
                fetch(server.address, "/metrics")
    assert server.workers() == [worker]
    assert fetch(server.address, "/ok").status == 200
