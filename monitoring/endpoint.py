"""The app's own ``/metrics``: one merged exposition, whichever worker answers.

It is served only where no stranger can ask: while the service is bound to loopback, or with a token. It never redirects.
Every worker gives the same answer, since each merges the whole metrics directory; that happens in a thread.
"""

import ipaddress
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from monitoring.exposition import Exposition, Receive, Scope, Send

if TYPE_CHECKING:
    from monitoring.multiprocess import MergedCollector


class MetricsEndpoint:
    """An ASGI application for the metrics path; where it may not answer, it is as if the path did not exist.

    Under gunicorn the addresses that it listens on decide, and `bind` where these cannot be seen; elsewhere, as under uvicorn, the
    server's end of each connection. `missing` makes the exception that is raised instead of an answer.
    """

    def __init__(self, *, bind: str, token: str | None, missing: Callable[[], Exception]) -> None:
        self._bind = bind
        self._token = token
        self._missing = missing
        self._local: bool | None = None
        self._exposition = Exposition(_Merged().render, token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scrape, or raise what stands for a path that does not exist."""
        if not (self._token or self._is_local(scope)):
            raise self._missing()
        await self._exposition(scope, receive, send)

    def _is_local(self, scope: Scope) -> bool:
        if started_by_gunicorn():
            if self._local is None:
                self._local = is_loopback(",".join(listening_addresses()) or self._bind)
            return self._local
        server = scope.get("server")
        return server is not None and server[1] is not None and is_loopback(server[0])


def is_loopback(address: str) -> bool:
    """Say whether every peer of an address, ``host``, ``host:port`` or a list of these with commas, is on this machine.

    A Unix socket is not: it is what a proxy in front connects to, on behalf of anybody.
    """
    return all(_host_is_loopback(part.strip()) for part in address.split(","))


def _host_is_loopback(address: str) -> bool:
    address = address.removeprefix("tcp://")
    if address.startswith("["):
        host = address[1:].partition("]")[0]
    elif address.count(":") > 1:
        host = address
    else:
        host = address.partition(":")[0]
    if host.lower() == "localhost":
        return True
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool(parsed.is_loopback or (mapped is not None and mapped.is_loopback))


def started_by_gunicorn() -> bool:
    """Say whether a gunicorn master started this process: it leaves its name in the environment."""
    return os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/")


def listening_addresses() -> list[str]:
    """Name the addresses that this process listens on, whoever configured them; a Unix socket's ends in no port."""
    found = set()
    with suppress(OSError):
        for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, no paths
            # A descriptor may be closed by another thread, or be no socket.
            with suppress(OSError), socket.socket(fileno=os.dup(int(entry))) as candidate:
                if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    name = candidate.getsockname()
                    found.add(f"[{name[0]}]:{name[1]}" if isinstance(name, tuple) else "unix:")
    return sorted(found)


class _Merged:
    """The collector of this process, made at the first scrape: a worker that is never asked holds none."""

    def __init__(self) -> None:
        """Make nothing yet."""
        self._collector: MergedCollector | None = None

    def render(self, openmetrics: bool) -> bytes:
        """Merge; only one thread at a time comes here."""
        if self._collector is None:
            from monitoring.multiprocess import MergedCollector

            self._collector = MergedCollector(None)
        return self._collector.render(openmetrics)
