from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.processes import take_away, wait_until
from tests.server_process import ask, refused, serving, spawn

if TYPE_CHECKING:
    from collections.abc import Callable

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
        # What it adds is its own: the socket for the workers, and the accounts of its merges.
        added = {entry.name for entry in metrics_directory.iterdir()} - set(before)
        assert added == {"exporter.sock", "counter_scrapes0.db", "histogram_scrapes0.db"}


def test_odd_questions_do_no_harm(alone: dict[str, str], metrics_directory: Path, port: int, tmp_path: Path) -> None:
    """Thousands of names, the longest list that fits, one that does not, and Accept headers that nobody has heard of."""
    write_metrics(alone, metrics_directory)
    sample = b'\nthings_total{kind="a"} 3.0\n'
    with serving(ALONE, port, "/healthz", alone, tmp_path / "log") as served:
        names = "&".join(f"name[]=n{number}" for number in range(4_500))
        for listed in (f"{names}&name[]=things_total", f"name[]=things_total&{names}"):
            answer = served.ask("GET", f"/metrics?{listed}")
            assert (answer.status, answer.body.count(b"\n")) == (200, 3)
            assert sample in answer.body
        assert served.ask("GET", f"/metrics?{names}").body == b""
        assert served.ask("GET", f"/metrics?{names}&{names}").status == 431
        for accept in ("", "image/png", "text/plain;version=9", ";;;,,,q=", "a/b;q=nonsense", "*", "x" * 60_000):
            answer = served.ask("GET", "/metrics", headers={"Accept": accept})
            assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
            assert sample in answer.body
        assert sample in served.ask("GET", "/metrics").body


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


def test_before_the_first_worker_it_says_that_there_is_none(
    alone: dict[str, str], metrics_directory: Path, port: int, tmp_path: Path
) -> None:
    with serving(ALONE, port, "/healthz", alone, tmp_path / "log") as served:
        text = served.ask("GET", "/metrics").body.decode()
        assert [line for line in text.splitlines() if not line.startswith("#")] == ["multiproc_workers 0.0"]
        openmetrics = served.ask("GET", "/metrics", headers={"Accept": "application/openmetrics-text"}).body.decode()
        assert openmetrics.splitlines() == [*text.splitlines(), "# EOF"]
        assert served.ask("GET", "/metrics?name[]=multiproc_workers").body.decode() == text
        write_metrics(alone, metrics_directory)
        after = served.ask("GET", "/metrics").body
        assert after.count(b"# TYPE multiproc_workers gauge") == 1
        assert b'\nthings_total{kind="a"} 3.0\n' in after


def test_it_follows_the_directory_when_it_is_made_anew(alone: dict[str, str], metrics_directory: Path, port: int, tmp_path: Path) -> None:
    pod = metrics_directory / "pod"
    alone["PROMETHEUS_MULTIPROC_DIR"] = str(pod)
    with serving(ALONE, port, "/healthz", alone, tmp_path / "log") as served:
        for _ in range(3):
            pod.mkdir(0o700)
            write_metrics(alone, pod)
            assert b'\nthings_total{kind="a"} 3.0\n' in served.ask("GET", "/metrics").body
            wait_until((pod / "exporter.sock").exists, "the socket for workers")
            take_away(pod)
            assert served.ask("GET", "/metrics").status == 503
    assert list(metrics_directory.iterdir()) == []


@pytest.mark.parametrize("how", ["world-writable", "runtime", "bind"])
def test_it_finds_the_directory_that_the_service_chooses(
    how: str, alone: dict[str, str], metrics_directory: Path, port: int, tmp_path: Path
) -> None:
    """By the same variables, and without making what the service makes."""
    if how == "world-writable":
        metrics_directory.chmod(0o1777)
    else:
        del alone["PROMETHEUS_MULTIPROC_DIR"]
    alone |= {"runtime": {"RUNTIME_DIRECTORY": f"{metrics_directory}:/elsewhere"}, "bind": {"BIND": f"127.0.0.1:{port}"}}.get(how, {})
    program = "import monitoring.multiprocess as m, os; m.install(); print(os.environ['PROMETHEUS_MULTIPROC_DIR'])\n"
    program += "from prometheus_client import Counter; Counter('things', 'Things.').inc(3)"
    with serving(ALONE, port, "/healthz", alone, tmp_path / "log") as served:
        assert served.ask("GET", "/metrics").status == (200 if how == "runtime" else 503)
        assert [entry.name for entry in metrics_directory.iterdir() if entry.name != "exporter.sock"] == []
        command = [sys.executable, "-c", program]
        found = Path(subprocess.run(command, env=alone, cwd=ROOT, check=True, timeout=60, capture_output=True, text=True).stdout.strip())
        try:
            assert b"\nthings_total 3.0\n" in served.ask("GET", "/metrics").body
        finally:
            if how == "bind":
                shutil.rmtree(found)


def test_another_users_directory_in_place_of_ours_is_not_read(alone: dict[str, str], metrics_directory: Path) -> None:
    metrics_directory.chmod(0o1777)
    ours = metrics_directory / f"multiproc-metrics-{os.geteuid()}"
    ours.symlink_to("/")
    ended = run(alone)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"monitoring.exporter: metrics directory {ours}: is not a directory owned by user")
    assert ended.stderr.count("\n") == 1


def test_it_takes_over_the_sockets_of_systemd(alone: dict[str, str]) -> None:
    """As sd_listen_fds(3) hands them down: from descriptor 3 on, in the process that is named."""
    del alone["METRICS_BIND"]
    program = (
        "import os, sys\n"
        "first, second = int(sys.argv[1]), int(sys.argv[2])\n"
        "first, second = os.dup(first), os.dup(second)\n"
        "os.dup2(first, 13); os.dup2(second, 14); os.dup2(13, 3); os.dup2(14, 4)\n"
        "os.set_inheritable(3, True); os.set_inheritable(4, True)\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '2'}\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'monitoring.exporter'])\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        handed = [one.fileno(), two.fileno()]
        command = [sys.executable, "-c", program, *map(str, handed)]
        process = subprocess.Popen(command, env=alone, cwd=ROOT, pass_fds=handed)
        try:
            for listening in (one, two):
                assert ask(listening.getsockname()[1], "GET", "/healthz").body == b"ok\n"
        finally:
            process.terminate()
            process.wait(60)


def test_many_scrapers_at_once_are_all_answered_and_memory_does_not_grow(
    alone: dict[str, str], port: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """50 at a time, again and again; what a merge costs is in test_exposition: they share it."""
    program = (
        "import monitoring.multiprocess as m; m.install()\n"
        "from prometheus_client import Counter; c = Counter('things', 'Things.', ['kind'])\n"
        "for number in range(5000): c.labels(f'{number:0100d}').inc()\n"
    )
    subprocess.run([sys.executable, "-c", program], env=alone, cwd=ROOT, check=True, timeout=60)
    with serving(ALONE, port, "/healthz", alone, tmp_path / "log") as served, ThreadPoolExecutor(50) as pool:

        def burst() -> None:
            answers = list(pool.map(lambda _: served.ask("GET", "/metrics"), range(50)))
            assert {answer.status for answer in answers} == {200}
            assert {answer.body.count(b"\nthings_total{") for answer in answers} == {5000}

        for _ in range(3):
            burst()
        before = resident_bytes(served.process.pid)
        for _ in range(6):
            burst()
        grown = resident_bytes(served.process.pid) - before
        size = len(served.ask("GET", "/metrics").body)
    record_property("memory_growth_bytes", grown)
    print(f"{grown} bytes more after 300 scrapes of {size} bytes")
    assert grown < 20 * size


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_it_needs_the_token_where_there_is_one(alone: dict[str, str], port: int, tmp_path: Path) -> None:
    alone["METRICS_TOKEN"] = "s3cret"
    with serving(ALONE, port, "/healthz", alone, tmp_path / "log") as served:
        wrong = served.ask("GET", "/metrics", headers={"Authorization": "Bearer wrong"})
        assert (wrong.status, wrong.body) == (401, b"unauthorized: send the bearer token METRICS_TOKEN\n")
        assert served.ask("GET", "/metrics").status == 401
        assert served.ask("GET", "/healthz").status == 200
        assert served.ask("GET", "/metrics", headers={"Authorization": "Bearer s3cret"}).status == 200


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"METRICS_BIND": "127.0.0.1:TAKEN"}, "METRICS_BIND=127.0.0.1:TAKEN: cannot listen there: Address already in use"),
        ({"METRICS_BIND": "nonsense"}, "METRICS_BIND='nonsense' is not allowed: it must be host:port, [ipv6]:port or unix:/path"),
        ({"METRICS_BIND": "127.0.0.1:65536"}, "METRICS_BIND='127.0.0.1:65536' is not allowed"),
        ({"METRICS_TOKEN": "my secret"}, "METRICS_TOKEN=(hidden) is not allowed: it must be visible ASCII characters without spaces"),
        ({"METRICS_LINGER": "soon"}, "METRICS_LINGER='soon' is not allowed: it must be seconds from 0 to 3600"),
        ({"METRICS_LINGER": "-1"}, "METRICS_LINGER='-1' is not allowed"),
        ({"METRICS_LINGER": "nan"}, "METRICS_LINGER='nan' is not allowed"),
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


def test_one_that_lingers_is_scraped_once_more(alone: dict[str, str], metrics_directory: Path, port: int, tmp_path: Path) -> None:
    with serving(ALONE, port, "/healthz", alone | {"METRICS_LINGER": "3600"}, tmp_path / "log") as served:
        served.process.send_signal(signal.SIGTERM)
        write_metrics(alone, metrics_directory)  # what the service counted last
        assert b'\nthings_total{kind="a"} 3.0\n' in served.ask("GET", "/metrics").body
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(60) == 0


def test_lingering_ends(alone: dict[str, str], port: int, tmp_path: Path) -> None:
    with serving(ALONE, port, "/healthz", alone | {"METRICS_LINGER": "0.5"}, tmp_path / "log") as served:
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(60) == 0


def test_one_that_starts_after_the_master_has_gone_ends_at_once(alone: dict[str, str]) -> None:
    ended = run({**alone, "NEURECTOMY_METRICS_PARENT": "1"})
    assert (ended.returncode, ended.stderr) == (0, "")
