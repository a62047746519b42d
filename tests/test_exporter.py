from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.faults.processes import MARKER, command_line, end_marked, is_alive, marked, parent, wait_until
from tests.serving import Served, ask, serving, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALONE = ["-m", "monitoring.exporter"]


@pytest.fixture
def port(free_port: Callable[[], int]) -> int:
    return free_port()


@pytest.fixture
def alone(environment: dict[str, str], metrics_directory: Path, port: int) -> dict[str, str]:
    return {**environment, "METRICS_BIND": f"127.0.0.1:{port}", "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)}


def run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *ALONE], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def write_metrics(environment: dict[str, str], directory: Path) -> None:
    """Count something in a process that ends."""
    program = (
        "import monitoring.multiprocess as m; m.install()\n"
        "from prometheus_client import Counter; Counter('things', 'Things.', ['kind']).labels('a').inc(3)\n"
    )
    subprocess.run(
        [sys.executable, "-c", program], env={**environment, "PROMETHEUS_MULTIPROC_DIR": str(directory)}, cwd=ROOT, check=True, timeout=60
    )


def test_stand_alone_it_serves_a_directory(alone: dict[str, str], metrics_directory: Path, port: int, tmp_path: Path) -> None:
    write_metrics(alone, metrics_directory)
    before = sorted(entry.name for entry in metrics_directory.iterdir())
    with serving(ALONE, port, "/healthz", alone, tmp_path / "log") as served:
        for path in ("/metrics", "/metrics/"):
            answer = served.ask("GET", path)
            assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
            assert b'\nthings_total{kind="a"} 3.0\n' in answer.body
        assert served.ask("GET", "/metrics", headers={"Accept": "application/openmetrics-text"}).body.endswith(b"# EOF\n")
        assert served.ask("GET", "/metrics?name[]=things_total").body.count(b"\n") == 3
        assert served.ask("HEAD", "/metrics").body == b""
        assert served.ask("GET", "/healthz").body == b"ok\n"
        assert served.ask("GET", "/").status == 404
        assert sorted(entry.name for entry in metrics_directory.iterdir() if entry.name != "exporter.sock") == before


def test_it_waits_for_the_directory_and_never_makes_it(alone: dict[str, str], metrics_directory: Path, port: int, tmp_path: Path) -> None:
    later = metrics_directory / "later"
    alone["PROMETHEUS_MULTIPROC_DIR"] = str(later)
    with serving(ALONE, port, "/healthz", alone, tmp_path / "log") as served:
        answer = served.ask("GET", "/metrics")
        assert answer.status == 503
        assert str(later).encode() in answer.body
        assert not later.exists()
        later.mkdir(0o700)
        write_metrics(alone, later)
        assert b"things_total" in served.ask("GET", "/metrics").body


def test_it_needs_the_token_where_there_is_one(alone: dict[str, str], port: int, tmp_path: Path) -> None:
    alone["METRICS_TOKEN"] = "s3cret"
    with serving(ALONE, port, "/healthz", alone, tmp_path / "log") as served:
        assert served.ask("GET", "/metrics").status == 401
        assert served.ask("GET", "/metrics", headers={"Authorization": "Bearer s3cret"}).status == 200


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"METRICS_BIND": "127.0.0.1:TAKEN"}, "METRICS_BIND=127.0.0.1:TAKEN: cannot listen there: Address already in use"),
        ({"METRICS_BIND": "nonsense"}, "METRICS_BIND=nonsense: not an address: use host:port, [ipv6]:port or unix:/path"),
        ({"METRICS_BIND": "127.0.0.1:65536"}, "METRICS_BIND=127.0.0.1:65536: not an address"),
        ({"PROMETHEUS_MULTIPROC_DIR": ""}, "PROMETHEUS_MULTIPROC_DIR is not set"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(change: dict[str, str], line: str, alone: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        ended = run({**alone, **{name: value.replace("TAKEN", number) for name, value in change.items()}})
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"monitoring.exporter: {line.replace('TAKEN', number)}")
    assert ended.stderr.count("\n") == 1


def test_it_serves_a_unix_socket_and_takes_over_a_stale_one(alone: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "s"
    alone["METRICS_BIND"] = f"unix:{path}"
    for _ in range(2):
        process = spawn(ALONE, alone, sys.stderr)
        try:
            wait_until(lambda: unix_answers(path), f"an answer on {path}")
        finally:
            process.kill()
            process.wait()
    assert path.exists()


def unix_answers(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        return client.recv(100).startswith(b"HTTP/1.1 200")
    return False


def test_a_connection_without_a_request_yet_is_answered_after_sigterm(alone: dict[str, str], port: int, tmp_path: Path) -> None:
    with serving(ALONE, port, "/healthz", alone, tmp_path / "log") as served:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n")  # the server knows the connection once it has answered another one
            served.ask("GET", "/healthz")
            served.process.send_signal(signal.SIGTERM)
            wait_until(lambda: refused(port), "no more connections accepted")
            client.sendall(b"Host: x\r\n\r\n")
            with client.makefile("rb") as answer:
                assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
        served.process.wait(60)


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


class Master(Served):
    """A running tests/exporter_master.py."""

    @property
    def exporters(self) -> list[int]:
        return [pid for pid in marked(self.marker) if command_line(pid)[1:3] == ["-m", "monitoring.exporter"]]

    def pids(self, role: str) -> list[int]:
        return [int(pid) for pid in re.findall(rf"^{role} (\d+)$", self.log.read_text(), re.MULTILINE)]


@pytest.fixture
def master(alone: dict[str, str], metrics_directory: Path, port: int, tmp_path: Path) -> Iterator[Master]:
    program = [str(Path(__file__).with_name("exporter_master.py")), alone.pop("METRICS_BIND"), str(metrics_directory)]
    marker = uuid.uuid4().hex
    log = tmp_path / "master.log"
    with log.open("wb") as output:
        process = spawn(program, {**alone, MARKER: marker}, output)
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


def test_one_that_starts_after_the_master_has_gone_ends_at_once(alone: dict[str, str]) -> None:
    ended = run({**alone, "NEURECTOMY_METRICS_PARENT": "1"})
    assert (ended.returncode, ended.stderr) == (0, "")


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
