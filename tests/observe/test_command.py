"""`python -m monitoring.observe`, as `make observe` runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.faults.harness import console_script
from tests.processes import MARKER, command_line, end_marked, marked, wait_until
from tests.prometheus.executables import program
from tests.server_process import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

OBSERVE = [sys.executable, "-m", "monitoring.observe"]
SERVICE = [*console_script("gunicorn"), "-c", "gunicorn_conf.py", "app.main:app"]


class Running:
    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.marker, self.folder, self.log = uuid.uuid4().hex, folder, folder / "log"
        self.environment = {**environment, MARKER: self.marker, "TMPDIR": str(folder), "REQUIRE_API_KEY": "0", "WEB_CONCURRENCY": "2"}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            return subprocess.Popen([*OBSERVE, *arguments], cwd=ROOT, env=self.environment, stdout=log, stderr=log)

    def port(self, name: str) -> int:
        return int(re.findall(rf"^{name} +http://127.0.0.1:(\d+)", self.log.read_text(), re.MULTILINE)[0])

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        def all_is_there() -> bool:
            assert process.poll() is None, self.log.read_text()
            return "Ctrl-C ends all of it" in self.log.read_text()

        wait_until(all_is_there, "everything runs", 180)


@pytest.fixture
def running(environment: dict[str, str], tmp_path: Path) -> Iterator[Running]:
    for name in ("prometheus", "alertmanager"):
        program(name)
    folder = tmp_path / "observing"
    folder.mkdir()
    made = Running(environment, folder)
    yield made
    end_marked(made.marker)


def test_all_of_it_runs_and_ends_at_ctrl_c(running: Running) -> None:
    process = running.start("--", *SERVICE)
    running.wait(process)
    assert ask(running.port("service"), "POST", "/v1/compress", b"abc" * 100).status == 200
    port = running.port("Prometheus")

    def requests() -> list[object]:
        found = ask(port, "GET", "/api/v1/query?query=neurectomy_http_requests_total")
        return list(json.loads(found.body)["data"]["result"])

    wait_until(requests, "Prometheus has the service's metrics", 180)
    rules = json.loads(ask(port, "GET", "/api/v1/rules").body)["data"]["groups"]
    assert sum(len(group["rules"]) for group in rules) > 40
    assert ask(running.port("Alertmanager"), "GET", "/-/ready").status == 200
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # who is impatient leaves nothing behind, either
    assert process.wait(120) == 0
    assert running.log.read_text().endswith("\nended\n")
    assert marked(running.marker) == []
    assert list(running.folder.glob("observe-*")) == []


def test_a_service_that_ends_is_told_with_its_last_words(running: Running) -> None:
    process = running.start("--", *SERVICE)
    running.wait(process)
    (master,) = [pid for pid in marked(running.marker) if command_line(pid)[1:2] == [SERVICE[1]] and pid_of_parent(pid) == process.pid]
    os.kill(master, signal.SIGKILL)
    assert process.wait(120) == 1
    assert "observe: the service has ended with -9; " in running.log.read_text()
    wait_until(lambda: not [pid for pid in marked(running.marker) if "prometheus" in command_line(pid)[0]], "they have ended")


def pid_of_parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize(
    ("variables", "arguments", "said"),
    [
        (
            {"PATH": "/nowhere"},
            ("--targets", "127.0.0.1:9"),
            "prometheus: not on PATH. Install it: apt-get install --no-install-recommends prometheus",
        ),
        ({"ALERT_WEBHOOK_URL": "ftp://x"}, ("--targets", "127.0.0.1:9"), "ALERT_WEBHOOK_URL=(hidden) is not allowed: it must be http://"),
        ({}, ("--targets", "nonsense"), "METRICS_TARGETS='nonsense' is not allowed: it must be host:port, or several with commas between"),
        ({}, ("--targets", "127.0.0.1:9", "--folder", "/proc/1/x"), "/proc/1/x: "),
        ({}, ("--", "/no/such/program"), "/no/such/program: No such file or directory"),
        ({}, ("--", sys.executable, "-c", "print('a last word'); exit(3)"), "the service has ended with 3; "),
    ],
)
def test_what_is_wrong_is_said_in_a_line(running: Running, variables: dict[str, str], arguments: tuple[str, ...], said: str) -> None:
    running.environment |= variables
    assert running.start(*arguments).wait(120) == 1
    text = running.log.read_text()
    assert text.startswith(f"observe: {said}")
    assert "Traceback" not in text
    assert list(running.folder.glob("observe-*")) == []
