"""The socket of the exporter: bound from METRICS_BIND, or taken over by its descriptor."""

import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from monitoring.addresses import Address

FD_VARIABLE = "NEURECTOMY_METRICS_FD"
"""Names the listening socket that a process passes to a program that it executes."""

READY_VARIABLE = "NEURECTOMY_METRICS_READY"
"""Names the pipe on which an exporter reports that it serves."""

PARENT_VARIABLE = "NEURECTOMY_METRICS_PARENT"
"""Names the process with which an exporter ends."""

_BACKLOG = 1024  # the kernel may lower it; scrapes wait in it while an exporter is replaced
_FIRST_SYSTEMD_FD = 3


def bind_socket(address: str, descriptor: str | None = None) -> socket.socket:
    """Return a listening socket for `host:port`, `[ipv6]:port`, `:port` or `unix:/path`.

    If a descriptor is named, here or in the environment, and listens on that address, it is used: this is how the socket survives
    USR2 without a refused connection. Raise OSError or ValueError with one line that names the address.
    """
    inherited = _inherited(descriptor or os.environ.pop(FD_VARIABLE, None))
    if inherited is not None:
        if descriptor is not None or _same(inherited, address):
            return inherited
        inherited.close()
    listening: socket.socket | None = None
    try:
        family, target = Address.parse(address).resolve()
        listening = socket.socket(family, socket.SOCK_STREAM)
        if isinstance(target, str):
            _remove_stale(target)
        else:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(target)
        listening.listen(_BACKLOG)
    except OSError as error:
        if listening is not None:
            listening.close()
        line = f"METRICS_BIND={address}: cannot listen there: {error.strerror or error}"
        raise OSError(error.errno, line) from None
    return listening


def systemd_sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """Return the sockets of a systemd socket unit, as sd_listen_fds(3) passes them. The list is empty without such a unit.

    Raise ValueError if one of them is not a listening stream socket.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    numbers = range(_FIRST_SYSTEMD_FD, _FIRST_SYSTEMD_FD + int(environ.get("LISTEN_FDS") or 0))
    taken = [_inherited(str(number)) for number in numbers]
    if None in taken:
        bad = numbers[taken.index(None)]
        line = f"LISTEN_FDS={len(taken)}: descriptor {bad} is not a listening stream socket. Use ListenStream= and Accept=no."
        raise ValueError(line)
    return [sock for sock in taken if sock is not None]


def _inherited(descriptor: str | None) -> socket.socket | None:
    """Return the socket behind a descriptor, no longer inheritable, or None if it is not a listening socket."""
    if descriptor is None:
        return None
    try:
        number = int(descriptor)
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return None
        inherited = socket.socket(fileno=number)
    except (ValueError, OSError):
        return None
    if not inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        inherited.detach()
        return None
    inherited.set_inheritable(False)
    return inherited


def _same(listening: socket.socket, address: str) -> bool:
    """Return whether a socket listens on an address. Port 0 matches any port."""
    family, target = Address.parse(address).resolve()
    name = listening.getsockname()
    if isinstance(target, str):
        return listening.family == family and name == target
    return bool(listening.family == family and name[0] == target[0] and target[1] in {0, name[1]})


def _remove_stale(path: str) -> None:
    """Remove a socket file without a listener."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                Path(path).unlink()
