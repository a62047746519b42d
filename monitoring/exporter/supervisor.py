"""The master's side of the exporter: it holds the listening socket, never accepts, and keeps one exporter running.

The socket stays open in the master, so a scrape that arrives while an exporter is being replaced waits in the queue and is not
refused. The exporter is executed, not forked, and shares no memory with the master. One thread starts it, waits for its end and
starts it again. The kernel ends the exporter with that thread, and so with the master.
"""

import logging
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from monitoring.exporter.listening_socket import FD_VARIABLE, PARENT_VARIABLE, READY_VARIABLE
from monitoring.exporter.pidfd import pidfd

_LOOK_SECONDS = 0.1
_STOP_SECONDS = 8.0
_PAUSES_SECONDS = (0.0, 0.05, 0.1, 0.25, 0.5)
_LONG_PAUSE_SECONDS = 1.0
_HOPELESS = 60
_HOPELESS_PAUSE_SECONDS = 10.0

_log = logging.getLogger("gunicorn.error")

_starting = threading.Lock()
"""Held while an exporter starts: a fork at that moment would copy half a start into a worker."""


class Exporter:
    """Keeps `python -m monitoring.exporter` running on a listening socket."""

    def __init__(
        self,
        sock: socket.socket,
        directory: str | os.PathLike[str],
        token: str | None = None,
        account: tuple[int, int] | None = None,
    ) -> None:
        """Nothing is started yet. `account` is the user and group of the exporter, if they differ from those of this process."""
        self._account = account
        self._socket: socket.socket | None = sock
        self._directory = os.fspath(directory)
        self._token = token
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._wake = -1
        self._descriptors: set[int] = set()
        self._owner = os.getpid()

    @property
    def pid(self) -> int | None:
        """The process id of the running exporter."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the exporter and keep it running. Further calls change nothing."""
        if self._thread is None and self._socket is not None:
            self._owner = os.getpid()
            self._stopped = False
            self._wake = os.eventfd(0, os.EFD_CLOEXEC)
            self._descriptors.add(self._wake)
            self._thread = threading.Thread(target=self._supervise, name="exporter", daemon=True)
            self._thread.start()
            _log.info("metrics exporter at %s", self._socket.getsockname())

    def stop(self) -> None:
        """End the exporter, wait until it has answered the connections that it has accepted, and close the socket."""
        if os.getpid() != self._owner:
            return
        if self._thread is not None:
            self._stopped = True
            os.eventfd_write(self._wake, 1)
            self._thread.join()
            self._thread = None
            self._close(self._wake)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def forget(self) -> None:
        """Close the socket in a forked worker, which neither serves nor ends the exporter."""
        if os.getpid() == self._owner:
            return
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.returncode = 0  # not a child of this process: nothing to wait for
            self._process = None
        for descriptor in list(self._descriptors):
            self._close(descriptor)
        self._thread = None

    def hand_over(self, environ: MutableMapping[str, str]) -> None:
        """Let the program that this process executes next inherit the socket, and name it in that program's environment."""
        if self._socket is not None:
            self._socket.set_inheritable(True)
            environ[FD_VARIABLE] = str(self._socket.fileno())

    def _supervise(self) -> None:
        """Start the exporter whenever it has ended, until `stop()`. If this thread ended, the kernel would end the exporter."""
        failed = 0
        while not self._stopped:
            try:
                served = self._run_once()
            except Exception as error:  # noqa: BLE001 - too many processes, or no memory: it may pass
                _log.error("cannot start the metrics exporter: %s. Trying again.", error)
                served = False
            # An exporter that has served is replaced at once, however often it is killed. After one that never served there is a pause.
            failed = 0 if served else failed + 1
            if failed and not self._stopped:
                select.select([self._wake], [], [], _pause(failed))

    def _run_once(self) -> bool:
        """Start an exporter and wait for its end. Return whether it served."""
        with _starting:
            process, ready = self._spawn()
            self._process = process
            ended = None
            with suppress(ProcessLookupError):
                ended = pidfd(process.pid)
            self._descriptors.update({ready} if ended is None else {ready, ended})
        try:
            served = self._wait(process, ready, ended)
        finally:
            self._close(ready)
            if ended is not None:
                self._close(ended)
        if self._stopped:
            self._end(process)
        else:
            _log.warning("the metrics exporter (pid %d) has ended; starting another", process.pid)
        return served

    def _wait(self, process: subprocess.Popen[bytes], ready: int, ended: int | None) -> bool:
        """Wait until the exporter ends, or `stop()` is called. Return whether it has served."""
        poll = select.poll()
        for descriptor in (self._wake, ready, ended):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        served = reported = False
        while not self._stopped:
            found = dict(poll.poll(None if ended is not None else 1000 * _LOOK_SECONDS))
            if ready in found and not reported:
                reported = True
                served = bool(os.read(ready, 1))
                poll.unregister(ready)
            if ended in found or (ended is None and process.poll() is not None):
                process.poll()  # reaps it, unless gunicorn has done so
                break
        return served

    def _spawn(self) -> tuple[subprocess.Popen[bytes], int]:
        """Execute an exporter. Return it, and the pipe on which it reports that it serves."""
        if self._socket is None:
            raise OSError(0, "its socket is closed")
        listening = self._socket.fileno()
        ready, report = os.pipe()
        environ = {
            **os.environ,
            "PROMETHEUS_MULTIPROC_DIR": self._directory,
            FD_VARIABLE: str(listening),
            READY_VARIABLE: str(report),
            PARENT_VARIABLE: str(os.getpid()),
            "METRICS_TOKEN": self._token or "",
            "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH")))),
            "PYTHONSAFEPATH": "1",  # nothing in the working directory is imported
        }
        command = [sys.executable, "-m", "monitoring.exporter"]
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[listening, report], env=environ, **self._identity())
        except BaseException:
            os.close(ready)
            raise
        finally:
            os.close(report)
        return process, ready

    def _identity(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        user, group = self._account
        return {"user": user, "group": group, "extra_groups": []}

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            with suppress(subprocess.TimeoutExpired):  # one that waits for a driver may not end, and must not block the master
                process.wait(_STOP_SECONDS)

    def _close(self, descriptor: int) -> None:
        self._descriptors.discard(descriptor)
        with suppress(OSError):
            os.close(descriptor)


def _pause(failed: int) -> float:
    """Return the seconds to wait after this many exporters in a row that never served."""
    if failed > _HOPELESS:
        return _HOPELESS_PAUSE_SECONDS
    return _PAUSES_SECONDS[failed] if failed < len(_PAUSES_SECONDS) else _LONG_PAUSE_SECONDS


_ROOT = str(Path(__file__).resolve().parents[2])

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release)
