"""Serves the merged metrics from a process of its own: ``python -m monitoring.exporter``.

It reads the metrics directory of a service, and neither creates nor clears it. While the directory is missing it answers 503. It
listens on METRICS_BIND, on a socket of systemd, or on a socket that a gunicorn master has bound. In the last case it ends with
the master, even if the master is killed. `monitoring.exporter.supervisor` is the master's side.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from monitoring.exporter.application import Application
from monitoring.exporter.listening_socket import FD_VARIABLE, PARENT_VARIABLE, READY_VARIABLE, bind_socket, systemd_sockets
from monitoring.exporter.pidfd import pidfd
from monitoring.exporter.server import Server
from monitoring.exporter.settings import Settings
from monitoring.exporter.view import View
from monitoring.scrape.response import Merges
from monitoring.scrape.worker_socket import Rendezvous

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from monitoring.gpu.exporter import Exported

LEAVE_SECONDS = 6.0
"""How long a leaving exporter may take to answer the connections that it has accepted."""

_ORPHAN_SECONDS = 0.4
_ORPHAN_AT_MOST_SECONDS = 0.7
_PR_SET_PDEATHSIG = 1


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Serve until SIGTERM or SIGINT. Return the exit code; if it is not 0, one line on stderr names the reason."""
    parent = environ.get(PARENT_VARIABLE)
    if parent is not None and not _end_with(int(parent)):
        return 0
    try:
        settings = Settings.load(environ)
        listening = systemd_sockets(environ) or [bind_socket(settings.bind, environ.get(FD_VARIABLE))]
        locate = _directory(environ)
        locate()
    except (OSError, ValueError) as error:
        print(f"monitoring.exporter: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 1
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    gpus = None
    if settings.gpu_seconds:
        from monitoring.gpu.exporter import Exported

        gpus = Exported(settings.gpu_seconds, locate)
    _serve(listening, locate, gpus, settings, environ.get(READY_VARIABLE), None if parent is None else int(parent))
    return 0


def _directory(environ: Mapping[str, str]) -> Callable[[], Path]:
    """Return the function that finds the metrics directory."""
    from monitoring.multiprocess import find_directory  # slow to import: the sockets are open already

    return lambda: find_directory(environ)


def _serve(
    listening: list[socket.socket],
    locate: Callable[[], Path],
    gpus: Exported | None,
    settings: Settings,
    ready: str | None,
    parent: int | None,
) -> None:
    merges = Merges(View(locate, gpus.collect if gpus else tuple).render)
    server = Server(Application(merges, settings.token))
    rendezvous = Rendezvous(locate, lambda sock: server.listen(sock, trusted=True), server.unlisten)
    for sock in listening:
        server.listen(sock)
    # Beside a master there is no time to linger. The orchestrator that stops a stand-alone exporter allows for it.
    server.leave_on(signal.SIGTERM, LEAVE_SECONDS, settings.linger_seconds if parent is None else 0.0)
    if parent is None:
        server.leave_on(signal.SIGINT, LEAVE_SECONDS)
    else:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)  # a terminal sends them to the whole group, and the master decides when to stop
        _watch_parent(server, parent)
    server.on_leave(rendezvous.leave)
    server.every_second(rendezvous.tend)
    server.soon(merges.warm)
    if gpus is not None:
        server.soon(gpus.start)
    _report_ready(ready)
    server.run()


def _report_ready(descriptor: str | None) -> None:
    if descriptor is not None:
        with suppress(OSError, ValueError):
            os.write(int(descriptor), b"\n")
            os.close(int(descriptor))


def _end_with(parent: int) -> bool:
    """Have the kernel send SIGTERM when the parent ends. Return False if it has ended already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    return os.getppid() == parent


def _watch_parent(server: Server, parent: int) -> None:
    """End within a second of the parent. SIGTERM alone does not prove its end: a living master sends it too, and then there is time."""
    descriptor: int | None = None

    def look() -> None:
        if os.getppid() != parent:
            orphaned()

    def orphaned() -> None:
        if descriptor is not None:
            server.unwatch(descriptor)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, _ORPHAN_AT_MOST_SECONDS)  # by the kernel, whatever this process is doing
        server.leave(_ORPHAN_SECONDS)

    with suppress(ProcessLookupError):  # it has ended: the first look finds that
        descriptor = pidfd(parent)
    if descriptor is None:
        server.every_second(look)
    else:
        server.watch(descriptor, orphaned)


if __name__ == "__main__":
    sys.exit(main())
