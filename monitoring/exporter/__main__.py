"""Serves the merged metrics from a process of its own: ``python -m monitoring.exporter``.

It reads the metrics directory of a service and neither makes nor clears it; while there is none it answers 503. It listens on
METRICS_BIND, on a socket of systemd's, or on one that a gunicorn master has bound and handed down, and then ends with that
master, however the master ends. The master's side of it is :mod:`monitoring.exporter.supervisor`.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from monitoring.exporter.listening_socket import FD_VARIABLE, PARENT_VARIABLE, READY_VARIABLE, bind_socket, systemd_sockets
from monitoring.exporter.pidfd import pidfd
from monitoring.exporter.server import Server
from monitoring.gpu.placement import exporter_seconds
from monitoring.multiprocess import paths
from monitoring.scrape.response import Answer, Merges, Unavailable, expected, plain, refusal, wanted
from monitoring.scrape.worker_socket import Rendezvous

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from monitoring.exporter.connection import Request
    from monitoring.gpu.exporter import Exported
    from monitoring.multiprocess import MergedCollector

DEFAULT_BIND = "127.0.0.1:9464"
LEAVE_SECONDS = 6.0
"""How long an exporter that was told to leave answers whom it had accepted."""

_MOST_LINGER_SECONDS = 3600.0
_NOBODY = b"# HELP multiproc_workers Processes that hold a slot.\n# TYPE multiproc_workers gauge\nmultiproc_workers 0.0\n"
_ORPHAN_SECONDS = 0.4
_ORPHAN_AT_MOST_SECONDS = 0.7
_PR_SET_PDEATHSIG = 1


class View:
    """The merged view of the service's directory, made anew where the directory is."""

    def __init__(self, locate: Callable[[], Path], given: Callable[[], Iterable[Metric]]) -> None:
        """Keep what names the directory, which need not exist yet, and what is shown beside what is in it."""
        self._locate = locate
        self._given = given
        self._collector: MergedCollector | None = None
        self._fd: int | None = None

    def render(self, openmetrics: bool) -> bytes:
        """Merge once; one thread at a time. Raises Unavailable while there is no directory."""
        from monitoring.multiprocess import MergedCollector
        from monitoring.multiprocess.storage.location import DirectoryError

        path: Path | None = None
        try:
            path = self._locate()
            if self._fd is None or not os.path.samestat(path.stat(), os.fstat(self._fd)):
                self._renew(path)
            if self._collector is None:
                self._collector = MergedCollector(None, str(path), given=self._given)
        except DirectoryError as error:
            raise Unavailable(str(error)) from None
        except (OSError, ValueError):
            reason = f"there is no metrics directory {path}: the service that fills it has not started, or somebody has removed it"
            raise Unavailable(reason) from None
        shown = self._collector.render(openmetrics)
        return _NOBODY + shown if _is_unused(path) else shown

    def _renew(self, path: Path) -> None:
        """Hold another directory: as long as it is held, no new one can have its inode."""
        self._collector = None
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _is_unused(path: Path) -> bool:
    """Whether nobody has written yet: whoever waits for a service that cannot start is to see that it has no worker."""
    with suppress(OSError):
        return not (path / paths.LOCK).exists() and not any(map(paths.is_value_file, os.listdir(path)))
    return False


class Application:
    """``/metrics`` and ``/healthz``."""

    def __init__(self, merges: Merges, token: str | None) -> None:
        """Keep who merges, and what a scraper must present."""
        self._merges = merges
        self._authorization = expected(token)

    def __call__(self, request: Request, done: Callable[[Answer], None]) -> Answer | None:
        """Answer at once, or have a merge do it."""
        path = request.path.rstrip(b"/")
        if path == b"/healthz":
            return plain(200, b"ok\n")
        if path != b"/metrics":
            return plain(404, b"there are /metrics and /healthz here\n")
        refused = refusal(request.method, request.headers, None if request.trusted else self._authorization)
        if refused is None:
            self._merges.ask(wanted(request.headers, request.query), done)
        return refused


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Serve until SIGTERM or SIGINT; give the exit code, with one line on stderr where it is not 0."""
    parent = environ.get(PARENT_VARIABLE)
    if parent is not None and not _end_with(int(parent)):
        return 0
    try:
        listening = systemd_sockets(environ) or [bind_socket(environ.get("METRICS_BIND") or DEFAULT_BIND, environ.get(FD_VARIABLE))]
        gpu_seconds, linger = exporter_seconds(environ), _linger(environ)
        locate = _directory(environ)
        locate()
    except (OSError, ValueError) as error:
        print(f"monitoring.exporter: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 1
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    gpus = None
    if gpu_seconds:
        from monitoring.gpu.exporter import Exported

        gpus = Exported(gpu_seconds, locate)
    _serve(listening, locate, gpus, linger, environ, None if parent is None else int(parent))
    return 0


def _linger(environ: Mapping[str, str]) -> float:
    """Give the seconds that METRICS_LINGER says. ValueError of one line for what is not allowed."""
    text = environ.get("METRICS_LINGER") or "0"
    with suppress(ValueError):
        if 0 <= (seconds := float(text)) <= _MOST_LINGER_SECONDS:
            return seconds
    raise ValueError(f"METRICS_LINGER={text!r} is not allowed: it must be seconds from 0 to {_MOST_LINGER_SECONDS:g}")


def _directory(environ: Mapping[str, str]) -> Callable[[], Path]:
    """Give what names the metrics directory."""
    from monitoring.multiprocess.storage import location  # while the sockets are open already: it takes its time

    return lambda: location.find(environ)


def _serve(
    listening: list[socket.socket],
    locate: Callable[[], Path],
    gpus: Exported | None,
    linger: float,
    environ: Mapping[str, str],
    parent: int | None,
) -> None:
    merges = Merges(View(locate, gpus.collect if gpus else tuple).render)
    server = Server(Application(merges, environ.get("METRICS_TOKEN")))
    rendezvous = Rendezvous(locate, lambda sock: server.listen(sock, trusted=True), server.unlisten)
    for sock in listening:
        server.listen(sock)
    # Beside a master there is no time to linger; whoever stops one that stands alone gives it the time.
    server.leave_on(signal.SIGTERM, LEAVE_SECONDS, linger if parent is None else 0.0)
    if parent is None:
        server.leave_on(signal.SIGINT, LEAVE_SECONDS)
    else:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)  # a terminal sends them to all: the master says when
        _watch_parent(server, parent)
    server.on_leave(rendezvous.leave)
    server.every_second(rendezvous.tend)
    server.soon(merges.warm)
    if gpus is not None:
        server.soon(gpus.start)
    _say_ready(environ.get(READY_VARIABLE))
    server.run()


def _say_ready(descriptor: str | None) -> None:
    if descriptor is not None:
        with suppress(OSError, ValueError):
            os.write(int(descriptor), b"\n")
            os.close(int(descriptor))


def _end_with(parent: int) -> bool:
    """Have the kernel send SIGTERM when the parent ends; False where it has ended already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    return os.getppid() == parent


def _watch_parent(server: Server, parent: int) -> None:
    """Be gone within a second of the parent's end. SIGTERM does not say that: a living master sends it too, and then there is time."""
    descriptor: int | None = None

    def look() -> None:
        if os.getppid() != parent:
            orphaned()

    def orphaned() -> None:
        if descriptor is not None:
            server.unwatch(descriptor)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, _ORPHAN_AT_MOST_SECONDS)  # the kernel's own: nothing of ours can be in its way
        server.leave(_ORPHAN_SECONDS)

    with suppress(ProcessLookupError):  # it has ended: that is seen at the first look
        descriptor = pidfd(parent)
    if descriptor is None:
        server.every_second(look)
    else:
        server.watch(descriptor, orphaned)


if __name__ == "__main__":
    sys.exit(main())
