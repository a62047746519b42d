"""The master's side of the exporter: it holds the socket, never accepts, and keeps one exporter running on it.

The socket stays open in the master, so a scrape that comes while an exporter is being replaced waits in the queue and
is not refused. The exporter is executed, not forked: it has none of the master's memory. One thread starts it, waits for it
and starts it again; the kernel ends the exporter when that thread ends, which is when the master does.
"""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import MutableMapping
from pathlib import Path

from monitoring.listening import FD_VARIABLE

PARENT_VARIABLE = "NEURECTOMY_METRICS_PARENT"
"""The process with which an exporter ends."""

_LOOK_SECONDS = 0.25
_PAUSE_SECONDS = 5.0
_STOP_SECONDS = 8.0

_log = logging.getLogger("gunicorn.error")

_starting = threading.Lock()
"""Held while an exporter is started: a fork at that moment would copy half a start into a worker."""


class Exporter:
    """Keeps ``python -m monitoring.exporter`` running on a listening socket."""

    def __init__(self, sock: socket.socket, directory: str | os.PathLike[str], token: str | None = None) -> None:
        """Keep what the exporter will be given; nothing is started."""
        self._socket: socket.socket | None = sock
        self._directory = os.fspath(directory)
        self._token = token
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._owner = os.getpid()

    @property
    def pid(self) -> int | None:
        """The exporter's process at this moment."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the exporter and keep it running; once is enough."""
        if self._thread is None and self._socket is not None:
            self._owner = os.getpid()
            self._stopped.clear()
            self._thread = threading.Thread(target=self._supervise, name="exporter", daemon=True)
            self._thread.start()
            _log.info("metrics exporter at %s", self._socket.getsockname())

    def stop(self) -> None:
        """End the exporter, and wait until it has answered whoever it had accepted. The socket is closed."""
        if os.getpid() != self._owner:
            return
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def forget(self) -> None:
        """Let go of the socket in a forked worker, which neither serves nor ends the exporter."""
        if os.getpid() == self._owner:
            return
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.returncode = 0  # not our child: nothing to wait for
            self._process = None
        self._thread = None

    def hand_over(self, environ: MutableMapping[str, str]) -> None:
        """Let the program that this process is about to execute inherit the socket, and tell it so in its environment."""
        if self._socket is not None:
            self._socket.set_inheritable(True)
            environ[FD_VARIABLE] = str(self._socket.fileno())

    def _supervise(self) -> None:
        """Start the exporter whenever there is none, until told to stop."""
        pause = 0.0
        while not self._stopped.is_set():
            try:
                with _starting:
                    process = self._process = self._spawn()
            except OSError as error:
                _log.error("the metrics exporter cannot be started (again in %g s): %s", _PAUSE_SECONDS, error)
                self._stopped.wait(_PAUSE_SECONDS)
                continue
            started = time.monotonic()
            while process.poll() is None:  # also once somebody else, like gunicorn's loop, has reaped it
                if self._stopped.wait(_LOOK_SECONDS):
                    self._end(process)
                    return
            if time.monotonic() - started > _PAUSE_SECONDS:
                pause = 0.0
            _log.warning("the metrics exporter (pid %d) has ended; starting another", process.pid)
            self._stopped.wait(pause)  # one that does not live is not started over and over
            pause = min(_PAUSE_SECONDS, 2 * pause + _LOOK_SECONDS)

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self._socket is None:
            raise OSError(0, "its socket is closed")
        descriptor = self._socket.fileno()
        environ = {
            **os.environ,
            "PROMETHEUS_MULTIPROC_DIR": self._directory,
            FD_VARIABLE: str(descriptor),
            PARENT_VARIABLE: str(os.getpid()),
            "METRICS_TOKEN": self._token or "",
            "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH")))),
        }
        command = [sys.executable, "-m", "monitoring.exporter"]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[descriptor], env=environ)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_ROOT = str(Path(__file__).resolve().parent.parent)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release)
