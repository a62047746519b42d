"""Prometheus and Alertmanager as child processes, with files of their own, until a block ends."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitoring.prometheus.configuration import Configuration, duration
from monitoring.prometheus.files import write

from .programs import find

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_LAST_LINES = 5


class EndedError(Exception):
    """A child has ended unexpectedly. The message has its last lines of output."""


@dataclass
class Child:
    """A running program, and the file with its output."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """EndedError if it has ended."""
        if self.process.poll() is not None:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
            raise EndedError(f"{self.name} has ended with {self.process.returncode}; {self.log} ends with:\n{last}")

    def wait_ready(self, address: str, path: str, seconds: float = 60) -> None:
        """Wait for an answer of 200. EndedError if the program ends, TimeoutError if it takes longer."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(address, timeout=5)
                with contextlib.closing(connection):
                    connection.request("GET", path)
                    if connection.getresponse().status == http.HTTPStatus.OK:
                        return
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} does not answer on {address} after {seconds:g} s; see {self.log}")
            time.sleep(0.05)

    def end(self, seconds: float) -> None:
        """End it, and kill it if it has not ended within the time."""
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_address() -> str:
    """Return an address of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def running(name: str, command: Sequence[str], log: Path, environ: Mapping[str, str], end_seconds: float = 10) -> Iterator[Child]:
    """Run a program until the block ends, out of the reach of the terminal's Ctrl-C. OSError where it cannot be started."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    child = Child(name, process, log)
    try:
        yield child
    finally:
        child.end(end_seconds)


@contextlib.contextmanager
def observing(configuration: Configuration, folder: Path, environ: Mapping[str, str]) -> Iterator[list[Child]]:
    """Run Alertmanager and Prometheus on the configuration's addresses; enter when both are ready. MissingError where one is not here."""
    (alertmanager_address,), prometheus_address = configuration.alertmanagers, configuration.prometheus
    alertmanager, prometheus = find("alertmanager"), find("prometheus")
    write(configuration, folder)
    told = (
        alertmanager,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={alertmanager_address}",
        "--cluster.listen-address=",  # one alone needs no other
    )
    scraping = (
        prometheus,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={prometheus_address}",
        f"--rules.alert.resend-delay={duration(configuration.times.resend)}",
        "--enable-feature=exemplar-storage",
    )
    with contextlib.ExitStack() as stack:
        children = []
        for name, command, address in (("Alertmanager", told, alertmanager_address), ("Prometheus", scraping, prometheus_address)):
            child = stack.enter_context(running(name, command, folder / f"{name.lower()}.log", environ))
            child.wait_ready(address, "/-/ready")
            children.append(child)
        yield children
