"""The address that this instance serves, found by each of its processes.

All workers of an instance find the same address, and so does its next start: on the command line (multiprocessing passes the
supervisor's on to its children), otherwise from a listening socket that the process inherited, otherwise in the environment.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.addresses import open_sockets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT = "127.0.0.1:8000"
_HOST, _PORT = DEFAULT.split(":")


def bound_address(environ: Mapping[str, str]) -> str:
    """Name the served address, as stable text: `host:port`, `unix:path`, or several of them with commas."""
    return _from_command_line(sys.argv, environ) or _from_sockets() or address_in(environ)


def _from_command_line(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    options = _options(arguments[1:])
    if binds := options.get("bind"):
        return ",".join(sorted(binds))
    if arguments and "uvicorn" in (*Path(arguments[0]).parts[-2:], Path(arguments[0]).stem):
        for name in ("host", "port", "uds", "fd"):
            if value := environ.get(f"UVICORN_{name.upper()}"):
                options.setdefault(name, [value])
    if uds := options.get("uds"):
        return f"unix:{uds[-1]}"
    port = options.get("port", [""])[-1]
    if "fd" in options or port in ("", "0"):
        # No port, or one that the kernel picks: the socket knows.
        host = options.get("host", [""])[-1]
        return f"{host}:{_PORT}" if host and not port and "fd" not in options else ""
    return f"{options.get('host', [_HOST])[-1]}:{port}"


def _options(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Collect `--name value` and `--name=value` of the options that name an address."""
    found: dict[str, list[str]] = {}
    names = {"--host": "host", "--port": "port", "--uds": "uds", "--fd": "fd", "--bind": "bind", "-b": "bind"}
    for index, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if name := names.get(option):
            value = value if equals else "".join(arguments[index + 1 : index + 2])
            found.setdefault(name, []).append(value)
    return found


def _from_sockets() -> str:
    """Name the stream sockets that are bound and not connected: a supervisor's child has them before it imports the application."""
    found = set()
    for candidate in open_sockets():
        if candidate.type == socket.SOCK_STREAM and (name := _name(candidate)):
            try:
                candidate.getpeername()
            except OSError:
                found.add(name)
    return ",".join(sorted(found))


def _name(candidate: socket.socket) -> str:
    name = candidate.getsockname()
    if candidate.family == socket.AF_UNIX:
        # A restart would not find an unnamed or abstract socket again.
        return f"unix:{name}" if isinstance(name, str) and name else ""
    if candidate.family in (socket.AF_INET, socket.AF_INET6) and name[1]:
        return f"{name[0]}:{name[1]}"
    return ""


def address_in(environ: Mapping[str, str]) -> str:
    """BIND, or PORT on all addresses, or the default, as in gunicorn_conf.py."""
    if bind := environ.get("BIND"):
        return bind
    port = environ.get("PORT")
    return f"0.0.0.0:{port}" if port else DEFAULT
