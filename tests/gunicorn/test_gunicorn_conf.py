"""gunicorn_conf.py under the real gunicorn: what it refuses, what wins, and what survives the master's signals."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from monitoring.multiprocess.linux import file_lock
from monitoring.multiprocess.storage import lock_file
from monitoring.multiprocess.storage.location import choose
from tests.conftest import ROOT
from tests.gunicorn_service import COMMAND
from tests.processes import marked, parent, wait_dead, wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gunicorn_service import Gunicorn


@pytest.mark.parametrize("worker_class", ["uvicorn", "asgi"])
def test_check_config_beside_a_running_service_changes_nothing(gunicorn: Gunicorn, worker_class: str) -> None:
    with socket.create_server(("127.0.0.1", gunicorn.port)), socket.create_server(("127.0.0.1", gunicorn.metrics_port)):
        command = [*COMMAND, "--check-config", "app.main:app"]
        environment = gunicorn.environment | {"WORKER_CLASS": worker_class}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(gunicorn.environment["PROMETHEUS_MULTIPROC_DIR"]) == []


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("WEB_CONCURRENCY", "0", "a whole number from 1 to 4096"),
        ("BIND", "here", "host:port, [ipv6]:port, unix:/path or fd://number, several with commas"),
        ("PRELOAD", "perhaps", "1, true, yes, on, 0, false, no or off"),
        ("LOG_LEVEL", "loud", "critical, error, warning, info or debug"),
    ],
)
def test_a_nonsense_variable_is_one_line(gunicorn: Gunicorn, name: str, value: str, allowed: str) -> None:
    line = f"{name}={value!r} is not allowed: it must be {allowed}"
    assert gunicorn.fail(**{name: value}) == line
    assert gunicorn.fail("--check-config", **{name: value}) == line


@pytest.mark.parametrize(("name", "value"), [("WEB_CONCURRENCY", "many"), ("FORWARDED_ALLOW_IPS", "proxy.local")])
def test_what_gunicorn_itself_would_stumble_over_is_checked_before_it(gunicorn: Gunicorn, name: str, value: str) -> None:
    command = [sys.executable, "-m", "app.settings"]
    done = subprocess.run(command, cwd=ROOT, env=gunicorn.environment | {name: value}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name}={value!r} is not allowed: it must be ")
    assert done.stderr.count("\n") == 1
    assert subprocess.run(command, cwd=ROOT, env=gunicorn.environment, check=True, capture_output=True).stderr == b""


def test_a_directory_that_cannot_be_used_is_one_line(gunicorn: Gunicorn, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/shm")
    assert "not found" in gunicorn.fail(PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "none"))
    assert "symbolic link" in gunicorn.fail(PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "link"))
    # Not writable even for root.
    unwritable = gunicorn.fail(PROMETHEUS_MULTIPROC_DIR="/proc")
    assert "no file can be created in it" in unwritable or "not writable" in unwritable


def test_a_port_in_use_is_one_line_that_names_the_holder(gunicorn: Gunicorn) -> None:
    with socket.create_server(("127.0.0.1", gunicorn.port)):
        assert f"BIND=127.0.0.1:{gunicorn.port}: the address is in use by process {os.getpid()}." in gunicorn.fail()
    with socket.create_server(("127.0.0.1", gunicorn.metrics_port)):
        assert f"METRICS_BIND=127.0.0.1:{gunicorn.metrics_port}: the address is in use by process {os.getpid()}." in gunicorn.fail()


def test_signals_keep_the_directory_the_exporter_and_the_counts(gunicorn: Gunicorn) -> None:
    master = gunicorn.start()
    gunicorn.compress()
    first = gunicorn.workers(master)
    assert len(first) == 2
    os.kill(master, signal.SIGHUP)
    wait_dead(*first)
    gunicorn.compress()
    assert gunicorn.requests() == 2
    os.kill(master, signal.SIGTTIN)
    wait_until(lambda: len(gunicorn.workers(master)) == 3, "a third worker")
    os.kill(master, signal.SIGUSR2)
    second_pidfile = gunicorn.pidfile.with_name("pid.2")
    wait_until(lambda: second_pidfile.exists() and second_pidfile.read_text().strip(), "a second master")
    second = int(second_pidfile.read_text())
    wait_until(lambda: len(gunicorn.workers(second)) == 2, "its workers")
    wait_until(lambda: "multiproc_workers 5.0" in gunicorn.scrape(), "both masters' workers share one directory")
    assert gunicorn.requests() == 2
    os.kill(master, signal.SIGTERM)
    wait_dead(master)
    gunicorn.compress()
    assert gunicorn.requests() == 3


def test_orphans_are_named_and_another_address_may_share_their_run(gunicorn: Gunicorn, free_port: Callable[[], int]) -> None:
    master = gunicorn.start()
    gunicorn.compress()
    orphans = sorted(gunicorn.workers(master))
    os.kill(master, signal.SIGKILL)
    gunicorn.processes[0].wait()
    assert f"in use by processes {orphans[0]}, {orphans[1]}." in gunicorn.fail()
    gunicorn.compress()
    gunicorn.port = free_port()
    gunicorn.start(BIND=f"127.0.0.1:{gunicorn.port}")
    assert gunicorn.requests() == 2


def test_the_command_line_wins_also_for_the_directory(gunicorn: Gunicorn, free_port: Callable[[], int], tmp_path: Path) -> None:
    del gunicorn.environment["PROMETHEUS_MULTIPROC_DIR"]
    taken, gunicorn.port = gunicorn.port, free_port()
    expected = choose(f"127.0.0.1:{gunicorn.port}", environ={})
    try:
        with socket.create_server(("127.0.0.1", taken)):
            master = gunicorn.start("-b", f"127.0.0.1:{gunicorn.port}", "--control-socket", str(tmp_path / "control"))
        for worker in gunicorn.workers(master):
            wait_until(lambda worker=worker: str(expected) in Path(f"/proc/{worker}/maps").read_text(), "files in that directory")
        wait_until((tmp_path / "control").exists, "the control socket that was asked for")
    finally:
        gunicorn.end()
        shutil.rmtree(expected)


def test_a_stopping_worker_does_not_wait_for_ever(gunicorn: Gunicorn) -> None:
    master = gunicorn.start(GRACEFUL_TIMEOUT="1")
    old = gunicorn.workers(master)
    with socket.create_connection(("127.0.0.1", gunicorn.port)) as slow:
        slow.sendall(b"POST /v1/compress HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n1")
        os.kill(master, signal.SIGHUP)
        wait_dead(*old)


def test_the_concurrency_limit_reaches_the_worker(gunicorn: Gunicorn) -> None:
    gunicorn.start(LIMIT_CONCURRENCY="1")  # uvicorn counts the connection that asks
    assert ask(gunicorn.port, "GET", "/health/live").status == 503


def test_no_exporter_where_none_is_wanted(gunicorn: Gunicorn) -> None:
    gunicorn.metrics_port = gunicorn.port
    master = gunicorn.start(METRICS_BIND="")
    assert len([pid for pid in marked(gunicorn.marker) if parent(pid) == master]) == 2


def test_a_daemon_holds_its_run(gunicorn: Gunicorn) -> None:
    gunicorn.start("--daemon")
    master = int(gunicorn.pidfile.read_text())
    for pid in gunicorn.workers(master):
        os.kill(pid, signal.SIGSTOP)
    descriptor = lock_file.open_lock_file(Path(gunicorn.environment["PROMETHEUS_MULTIPROC_DIR"]), write=False)
    try:
        assert file_lock.held_bytes(descriptor, lock_file.RUN, lock_file.RUN + 1) == {lock_file.RUN}
    finally:
        os.close(descriptor)
