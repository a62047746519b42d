"""gunicorn with the project's configuration file and the real application, started, asked and ended."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from tests.conftest import ROOT
from tests.faults.harness import console_script
from tests.processes import MARKER, command_line, end_marked, marked, parent, wait_until
from tests.server_process import ask

REQUESTS = 'neurectomy_http_requests_total{endpoint="/v1/compress",method="POST",status="200"}'
COMMAND = [*console_script("gunicorn"), "-c", "gunicorn_conf.py"]


@dataclass(eq=False)
class Gunicorn:
    """Starts gunicorn with the project's configuration in one environment, and ends all of it."""

    environment: dict[str, str]
    folder: Path
    port: int
    metrics_port: int
    marker: str = field(default_factory=lambda: uuid.uuid4().hex)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    #: What the command is started through.
    wrapper: list[str] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def pidfile(self) -> Path:
        return self.folder / "pid"

    def fail(self, *arguments: str, **environ: str) -> str:
        """Start, and give the one line with which the start fails."""
        command = [*self.wrapper, *COMMAND, *arguments, "app.main:app"]
        environment = self.environment | {MARKER: self.marker} | environ
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 1, done.stderr
        assert done.stdout == ""
        assert done.stderr.startswith("gunicorn_conf.py: ")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.removeprefix("gunicorn_conf.py: ").rstrip()

    def begin(self, *arguments: str, **environ: str) -> int:
        """Start and wait for nothing; give the master's pid."""
        command = [*self.wrapper, *COMMAND, "-p", str(self.pidfile), *arguments, "app.main:app"]
        environment = self.environment | {MARKER: self.marker} | environ
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process.pid

    def start(self, *arguments: str, **environ: str) -> int:
        """Start and wait until the service and the exporter answer; give the master's pid."""
        pid = self.begin(*arguments, **environ)
        process = self.processes[-1]

        def answers() -> bool:
            daemon = any(argument in ("-D", "--daemon") for argument in arguments)
            assert daemon or process.poll() is None, self.log.read_text()
            try:
                return ask(self.port, "GET", "/health/live").status in (200, 503) and bool(self.scrape())
            except OSError:
                return False

        wait_until(answers, "the service and its exporter answer")
        return pid

    def end(self) -> None:
        end_marked(self.marker)
        for process in self.processes:
            process.wait()

    def compress(self) -> None:
        assert ask(self.port, "POST", "/v1/compress", b"abc" * 100).status == 200

    def scrape(self) -> str:
        answer = ask(self.metrics_port, "GET", "/metrics")
        assert answer.status == 200, answer
        return answer.body.decode()

    def requests(self) -> float:
        return sum(float(line.rpartition(" ")[2]) for line in self.scrape().splitlines() if line.startswith(REQUESTS))

    def workers(self, master: int) -> list[int]:
        found = [pid for pid in marked(self.marker) if parent(pid) == master]
        return [pid for pid in found if "monitoring.exporter" not in command_line(pid)]

    def showing(self, master: int, family: str) -> int | None:
        """Give the worker that has set this gauge last: several roles are held through one lock file, so only what is shown tells."""
        newest, found = 0.0, None
        for pid in self.workers(master):
            with contextlib.suppress(OSError):
                maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
                for file in {line.split()[-1] for line in maps if "/gauge_livemostrecent_" in line}:
                    for key, value, moment, *_ in MmapedDict.read_all_values_from_file(file):  # type: ignore[no-untyped-call]
                        if json.loads(key)[0] == family and not math.isnan(value) and moment > newest:
                            newest, found = moment, pid
        return found
