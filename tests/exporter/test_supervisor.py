from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes import MARKER, command_line, end_marked, is_alive, marked, parent, wait_until
from tests.server_process import Served, ask, refused, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def port(free_port: Callable[[], int]) -> int:
    return free_port()


class Master(Served):
    """A running tests/exporter/master_process.py."""

    @property
    def exporters(self) -> list[int]:
        return [pid for pid in marked(self.marker) if command_line(pid)[1:3] == ["-m", "monitoring.exporter"]]

    def pids(self, role: str) -> list[int]:
        return [int(pid) for pid in re.findall(rf"^{role} (\d+)$", self.log.read_text(), re.MULTILINE)]


@pytest.fixture
def master(environment: dict[str, str], metrics_directory: Path, port: int, tmp_path: Path) -> Iterator[Master]:
    program = [str(Path(__file__).with_name("master_process.py")), f"127.0.0.1:{port}", str(metrics_directory)]
    marker = uuid.uuid4().hex
    log = tmp_path / "master.log"
    with log.open("wb") as output:
        process = spawn(program, {**environment, MARKER: marker}, output)
    master = Master(process, port, log, marker)
    try:
        wait_until(lambda: process.poll() is not None or answers(port), "the exporter answers")
        assert process.poll() is None, log.read_text()
        yield master
    finally:
        end_marked(marker)
        process.wait()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return ask(port, "GET", "/metrics").status == 200
    return False


def test_it_is_executed_and_the_master_never_accepts(master: Master) -> None:
    (exporter,) = master.exporters
    assert parent(exporter) == master.process.pid
    os.kill(exporter, signal.SIGSTOP)
    try:
        with socket.create_connection(("127.0.0.1", master.port), timeout=1) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises(TimeoutError):
                client.recv(1)
    finally:
        os.kill(exporter, signal.SIGCONT)


def test_it_is_started_again_and_no_scrape_fails_meanwhile(master: Master) -> None:
    for _ in range(3):
        (killed,) = master.exporters
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda killed=killed: not is_alive(killed), "the exporter ended")
        assert ask(master.port, "GET", "/metrics").status == 200  # waited in the queue of the master's socket
        wait_until(lambda killed=killed: [pid for pid in master.exporters if pid != killed], "another exporter")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGTERM])
def test_it_ends_with_the_master_whatever_ends_that(master: Master, number: signal.Signals) -> None:
    (exporter,) = master.exporters
    master.process.send_signal(number)
    master.process.wait(60)
    wait_until(lambda: not is_alive(exporter), "the exporter ended")
    wait_until(lambda: refused(master.port), "the socket is closed")
    assert marked(master.marker) == []


def test_a_terminals_interrupt_is_the_masters_to_handle(master: Master) -> None:
    (exporter,) = master.exporters
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(exporter, number)
    assert ask(master.port, "GET", "/metrics").status == 200
    assert master.exporters == [exporter]


def test_one_that_cannot_start_is_not_started_over_and_over(environment: dict[str, str], port: int, tmp_path: Path) -> None:
    """A slow machine starts fewer: what is asserted is that there are never many."""
    program = str(Path(__file__).with_name("master_process.py"))
    marker = uuid.uuid4().hex
    log = tmp_path / "master.log"
    with log.open("wb") as output:
        process = spawn([program, f"127.0.0.1:{port}", ""], {**environment, MARKER: marker}, output)
    try:
        wait_until(lambda: log.read_text().count("has ended; starting another") > 4, "four failed starts")
        before = log.read_text().count("has ended")
        time.sleep(3)
        assert process.poll() is None, log.read_text()
        assert 1 <= log.read_text().count("has ended") - before <= 6
        process.terminate()
        process.wait(60)
        assert f"stopped {process.pid}" in log.read_text()
    finally:
        end_marked(marker)
        process.wait()


def test_workers_let_go_of_the_socket(master: Master) -> None:
    master.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: master.pids("worker"), "a worker")
    (worker,) = master.pids("worker")
    (exporter,) = master.exporters
    assert listening(worker) == set()
    assert len(listening(exporter)) == 1
    assert listening(exporter) <= listening(master.process.pid)
    master.process.kill()
    wait_until(lambda: refused(master.port), "nobody holds the socket although the worker lives")
    assert is_alive(worker)


def listening(pid: int) -> set[str]:
    """Name the TCP sockets that a process listens on, by inode."""
    waiting = {fields[9] for fields in map(str.split, Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]) if fields[3] == "0A"}
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    return held & waiting


def test_usr2_hands_the_socket_on_without_a_failed_scrape(master: Master) -> None:
    stop = threading.Event()
    failures: list[str] = []
    scrapes = 0

    def scrape() -> None:
        nonlocal scrapes
        while not stop.is_set():
            try:
                answer = ask(master.port, "GET", "/metrics")
                if answer.status != 200:
                    failures.append(str(answer))
            except OSError as error:
                failures.append(repr(error))
            scrapes += 1

    (old,) = master.exporters
    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        master.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: len(master.pids("master")) == 2, "the second master")
        wait_until(lambda: len(master.exporters) == 2, "the second exporter")
        (new,) = set(master.exporters) - {old}
        time.sleep(0.2)  # let both accept
        before = scrapes
        master.process.send_signal(signal.SIGTERM)
        master.process.wait(60)
        wait_until(lambda: not is_alive(old), "the old exporter ended")
        wait_until(lambda: scrapes > before + 20, "more scrapes")
    finally:
        stop.set()
        scraper.join()
    assert failures == []
    assert master.exporters == [new]
    assert parent(new) == master.pids("master")[1]


def test_usr2_rolled_back_leaves_the_first_one_serving(master: Master) -> None:
    (old,) = master.exporters
    master.process.send_signal(signal.SIGUSR2)
    # The master says its pid after it has started its exporter: either may be seen first.
    wait_until(lambda: len(master.pids("master")) == 2, "the second master")
    wait_until(lambda: len(master.exporters) == 2, "the second exporter")
    os.kill(master.pids("master")[1], signal.SIGTERM)
    wait_until(lambda: master.exporters == [old], "only the first exporter")
    assert ask(master.port, "GET", "/metrics").status == 200
