"""Serves the merged metrics from a process of its own: ``python -m monitoring.exporter``.

It reads the metrics directory that PROMETHEUS_MULTIPROC_DIR names and changes nothing in it; while there is none it
answers 503. It listens on METRICS_BIND, or on a socket that a gunicorn master has bound and handed down, and then ends with
that master, however the master ends. The master's side of it is :mod:`monitoring.supervision`.
"""

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from monitoring.exposition import PLAIN, Exposition, Receive, Scope, Send, Unavailable
from monitoring.listening import FD_VARIABLE, bind_socket
from monitoring.supervision import PARENT_VARIABLE, Exporter

if TYPE_CHECKING:
    from monitoring.multiprocess import MergedCollector

__all__ = ["Exporter", "ExporterApp", "bind_socket", "main"]

DEFAULT_BIND = "127.0.0.1:9464"
_LINGER_SECONDS = 2.0
_PR_SET_PDEATHSIG = 1


class ExporterApp:
    """``/metrics`` and ``/healthz``, as an ASGI application over one metrics directory."""

    def __init__(self, directory: Path, token: str | None = None) -> None:
        """Keep the directory, which need not exist yet."""
        self._directory = directory
        self._collector: MergedCollector | None = None
        self._exposition = Exposition(self._render, token, close=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"].rstrip("/")
        if path == "/metrics":
            await self._exposition(scope, receive, send)
            return
        status, body = (200, b"ok\n") if path == "/healthz" else (404, b"there are /metrics and /healthz here\n")
        headers = [(b"content-type", PLAIN), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _render(self, openmetrics: bool) -> bytes:
        if not self._directory.is_dir():
            self._collector = None
            reason = f"there is no metrics directory {self._directory} (yet): the service that fills it has not started"
            raise Unavailable(reason)
        if self._collector is None:
            from monitoring.multiprocess import MergedCollector

            self._collector = MergedCollector(None, str(self._directory))
        return self._collector.render(openmetrics)


class ExporterServer(uvicorn.Server):
    """A server that answers every connection it has accepted before it ends.

    Each answer closes its connection, so an open one is owed an answer; uvicorn would cut it where the request has not been
    read yet, and that scrape would fail although another process listens on the same socket.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, answer who is connected, for a while, and end."""
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LINGER_SECONDS
        while self.server_state.connections and loop.time() < deadline and not self.force_exit:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Serve until SIGTERM or SIGINT; give the exit code, with one line on stderr where it is not 0."""
    parent = environ.get(PARENT_VARIABLE)
    if parent is not None and not _end_with(int(parent)):
        return 0
    directory = environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not directory:
        return _refuse("PROMETHEUS_MULTIPROC_DIR is not set: it must name the metrics directory of the service")
    bind = environ.get("METRICS_BIND") or DEFAULT_BIND
    try:
        listening = bind_socket(bind, environ.get(FD_VARIABLE))
    except OSError as error:
        return _refuse(error.strerror or str(error))
    except ValueError as error:
        return _refuse(str(error))
    app = ExporterApp(Path(directory), environ.get("METRICS_TOKEN"))
    config = uvicorn.Config(
        app,
        loop="asyncio",
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    with suppress(KeyboardInterrupt):
        ExporterServer(config).run(sockets=[listening])
    return 0


def _refuse(line: str) -> int:
    print(f"monitoring.exporter: {line}", file=sys.stderr)  # noqa: T201 - the reason, for whoever started us
    return 1


def _end_with(parent: int) -> bool:
    """Have the kernel send SIGTERM when the parent ends; False where it has ended already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    return os.getppid() == parent


if __name__ == "__main__":
    sys.exit(main())
