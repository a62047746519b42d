"""Real servers in subprocesses: started, watched, killed, and always ended.

A server is found again by its marker, not by its tree: orphans and second masters are its own too.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests import processes
from tests.processes import MARKER, wait_until

from .client import Address, fetch
from .scraper import Samples, http, parse, total

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent.parent
APPLICATION = "tests.faults.service:app"


def console_script(name: str) -> list[str]:
    """Give the command of an installed script; `python -m gunicorn` could not USR2."""
    return [sys.executable, str(Path(sys.executable).parent / name)]


@dataclass(frozen=True)
class Variant:
    """How gunicorn runs the service."""

    preload: bool
    worker_class: str

    def __str__(self) -> str:
        """Name the variant in test ids."""
        return f"{self.worker_class or 'uvicorn'}{'-preload' if self.preload else ''}"

    @property
    def environment(self) -> dict[str, str]:
        """Give the settings that make it so."""
        asked = {"PRELOAD": "1" if self.preload else "0"}
        return asked | ({"WORKER_CLASS": self.worker_class} if self.worker_class else {})


@dataclass
class Server:
    """One server of the service under test, with all processes that descend from it."""

    command: list[str]
    environment: dict[str, str]
    log: Path
    address: Address
    metrics: Address | None
    pidfile: Path
    marker: str = field(default_factory=lambda: uuid.uuid4().hex)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait for nothing."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment | {MARKER: self.marker},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The master (gunicorn) or supervisor (uvicorn) that was started."""
        assert self.process is not None, "the server was never started"
        return self.process.pid

    @property
    def scrape(self) -> Callable[[], str]:
        """Where a Prometheus would be pointed."""
        return http(self.metrics or self.address)

    def samples(self) -> Samples:
        """Scrape once."""
        return parse(self.scrape())[0]

    def alive(self) -> list[int]:
        """Every living process of this server."""
        return processes.marked(self.marker)

    def workers(self, master: int | None = None) -> list[int]:
        """The living workers of this master, or of the one that was started."""
        master = master or self.pid

        def works(pid: int) -> bool:
            line = " ".join(processes.command_line(pid))
            return "monitoring.exporter" not in line and "resource_tracker" not in line

        return [pid for pid in self.alive() if processes.parent(pid) == master and works(pid)]

    def second_master(self) -> int:
        """The master that USR2 started: gunicorn writes its pid beside the first one's; 0 while there is none."""
        path = self.pidfile.with_name(self.pidfile.name + ".2")
        text = path.read_text().strip() if path.exists() else ""
        return int(text) if text else 0

    def master_in_charge(self) -> int:
        """The pid in the pid file itself; 0 while there is none."""
        text = self.pidfile.read_text().strip() if self.pidfile.exists() else ""
        return int(text) if text else 0

    def send(self, signum: signal.Signals, pid: int | None = None) -> None:
        """Signal the master, or one process of this server."""
        processes.send(pid or self.pid, signum)

    def kill_everything(self) -> None:
        """Kill -9 the master first, so that it replaces nobody, then all others."""
        self.send(signal.SIGKILL)
        processes.end_marked(self.marker)
        assert self.process is not None
        self.process.wait()

    def wait_alive(self, workers: int) -> None:
        """Wait until a scrape shows so many living workers: no fewer, and none that is dead."""

        def shown() -> bool:
            try:
                samples = self.samples()
            except OSError:
                return False
            finally:
                self.require_running()
            return total(samples, "faults_alive") == workers

        try:
            wait_until(shown, f"faults_alive == {workers}")
        except AssertionError as error:
            try:
                text = self.scrape()
            except OSError as unanswered:
                text = f"multiproc: not even a scrape: {unanswered}"
            lines = [line for line in text.splitlines() if line.startswith(("faults_alive", "multiproc"))]
            message = f"{error}; the last scrape: {lines}; the log: {self.log_tail()}"
            raise AssertionError(message) from None

    def wait_listening(self) -> None:
        """Wait until the application answers."""

        def answers() -> bool:
            self.require_running()
            try:
                return fetch(self.address, "/pid").status == 200
            except OSError:
                return False

        wait_until(answers, "the application answers")

    def require_running(self) -> None:
        """Fail at once, with the log, where nothing of the server is left."""
        assert self.process is not None
        if self.process.poll() is not None and not self.alive():
            message = f"the server ended with {self.process.returncode}: {self.log_tail()}"
            raise AssertionError(message)

    def log_tail(self, size: int = 4000) -> str:
        """Give the end of the log."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def stop(self) -> None:
        """End the server politely where it listens to that, and in any case."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.send(signal.SIGKILL)
        processes.end_marked(self.marker)
        self.process.wait()


@dataclass
class Harness:
    """Makes the servers of one test, and ends them."""

    base_environment: dict[str, str]
    directory: Path
    logs: Path
    unused_port: Callable[[], int]
    servers: list[Server] = field(default_factory=list)

    def gunicorn(
        self,
        variant: Variant,
        *,
        workers: int = 2,
        port: int = 0,
        wait: bool = True,
        **settings: str,
    ) -> Server:
        """Make a gunicorn by the project's configuration file, with its exporter; wait until all workers live."""
        address = ("127.0.0.1", port or self.unused_port())
        metrics = ("127.0.0.1", self.unused_port())
        pidfile = self._path("pid")
        server = Server(
            command=[*console_script("gunicorn"), "-c", "gunicorn_conf.py", "-p", str(pidfile), APPLICATION],
            environment=self.base_environment
            | {
                "BIND": f"127.0.0.1:{address[1]}",
                "METRICS_BIND": f"127.0.0.1:{metrics[1]}",
                "PROMETHEUS_MULTIPROC_DIR": str(self.directory),
                "WEB_CONCURRENCY": str(workers),
                "GRACEFUL_TIMEOUT": "10",
            }
            | variant.environment
            | settings,
            log=self._path("log"),
            address=address,
            metrics=metrics,
            pidfile=pidfile,
        )
        return self._begin(server, workers, wait=wait)

    def uvicorn(self, *arguments: str, workers: int = 2, **settings: str) -> Server:
        """Make `uvicorn --workers`: no master of ours, no hooks, no exporter."""
        address = ("127.0.0.1", self.unused_port())
        options = ["--workers", str(workers), "--host", address[0], "--port", str(address[1]), *arguments]
        server = Server(
            command=[*console_script("uvicorn"), *options, "--no-access-log", APPLICATION],
            environment=self.base_environment | {"PROMETHEUS_MULTIPROC_DIR": str(self.directory)} | settings,
            log=self._path("log"),
            address=address,
            metrics=None,
            pidfile=self._path("pid"),
        )
        return self._begin(server, workers, wait=True)

    def _path(self, ending: str) -> Path:
        return self.logs / f"server-{len(self.servers)}.{ending}"

    def _begin(self, server: Server, workers: int, *, wait: bool) -> Server:
        self.servers.append(server)
        server.start()
        if wait:
            server.wait_alive(workers)
            server.wait_listening()
        return server

    def end(self) -> None:
        """End every server, and print the logs, which pytest shows where the test failed."""
        for server in self.servers:
            server.stop()
        for server in self.servers:
            print(f"--- {' '.join(server.command)}\n{server.log_tail(20_000)}")
