"""The real service for a benchmark: gunicorn with gunicorn_conf.py, on sockets that are bound here and handed down."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from _fleet import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE_SECONDS = 60


@dataclass
class Service:
    """A service that answers on `port`, and its exporter on `metrics_port`."""

    process: subprocess.Popen[bytes]
    port: int
    metrics_port: int

    def workers(self) -> set[int]:
        """Give the pids of the workers, as far as the master has forked them already."""
        pid = self.process.pid
        found = set()
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            with contextlib.suppress(OSError):
                if b"monitoring.exporter" not in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.add(child)
        return found


@contextmanager
def service(path: Path, workers: int, **settings: str) -> Iterator[Service]:
    """Run the service over one metrics directory until the block ends; enter it once it answers."""
    with (
        tempfile.TemporaryDirectory(prefix="neurectomy-bench-data-") as data,
        _service(path, workers, **{"DATA_DIR": data, **settings}) as running,
    ):
        yield running


@contextmanager
def _service(path: Path, workers: int, **settings: str) -> Iterator[Service]:
    from monitoring.exporter.listening_socket import FD_VARIABLE

    with socket.create_server(("127.0.0.1", 0), backlog=512) as app, socket.create_server(("127.0.0.1", 0), backlog=128) as metrics:
        port, metrics_port = app.getsockname()[1], metrics.getsockname()[1]
        chosen = {
            "BIND": f"fd://{app.fileno()}",
            "METRICS_BIND": f"127.0.0.1:{metrics_port}",
            FD_VARIABLE: str(metrics.fileno()),
            "PROMETHEUS_MULTIPROC_DIR": str(path),
            "WEB_CONCURRENCY": str(workers),
            "LOG_LEVEL": "warning",
            "REQUIRE_API_KEY": "0",
            **settings,
        }
        gunicorn = Path(sys.executable).with_name("gunicorn")
        process = subprocess.Popen(
            [gunicorn, "-c", "gunicorn_conf.py", "app.main:app"],
            cwd=ROOT,
            env=environment(**chosen),
            pass_fds=[app.fileno(), metrics.fileno()],
            start_new_session=True,
        )
    try:
        get(port, "/health/live")
        yield Service(process, port, metrics_port)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def get(port: int, path: str, headers: dict[str, str] | None = None) -> bytes:
    """Ask on a connection of its own; give the body of what must be a 200."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_SECONDS)) as connection:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        body = answer.read()
    assert answer.status == 200, f"{path} was answered with {answer.status}"
    return body
