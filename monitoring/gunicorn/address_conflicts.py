"""Finds which processes listen on an address that a new master needs, so that the operator knows what to stop.

Workers of a killed master keep serving. A new master cannot start on their address until they have ended.
"""

import errno
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import combinations
from pathlib import Path

from monitoring.addresses import ANY, ANY_IPV6, Address

_LISTEN = "0A"
_PAUSE_SECONDS = 0.05


class AddressInUseError(ValueError):
    """An address cannot be bound. The text is one line that names the processes that listen there."""


def require_free(address: str, said: str, patience_seconds: float = 2.0) -> None:
    """Return once the address can be bound, or raise AddressInUseError; the patience is for a server that is just ending.

    `said` names the address in the error, as `BIND=127.0.0.1:8000`.
    """
    wanted = Address.parse(address)
    deadline = time.monotonic() + patience_seconds
    while error := _bind_error(wanted):
        if error.errno != errno.EADDRINUSE:
            message = f"{said}: cannot listen there: {error.strerror or error}"
            raise AddressInUseError(message)
        if time.monotonic() >= deadline:
            raise AddressInUseError(f"{said}: {_in_use(wanted)}")
        time.sleep(_PAUSE_SECONDS)


def require_apart(assignments: list[str]) -> None:
    """Raise AddressInUseError if two of these `VARIABLE=address` cannot be bound at the same time."""
    places = [(said, _place(Address.parse(said.partition("=")[2]))) for said in assignments]
    for (said, place), (other, second) in combinations(places, 2):
        if _collide(place, second):
            message = f"{said} and {other} are the same address. Set one of them to another address."
            raise AddressInUseError(message)


def _in_use(address: Address) -> str:
    """Return a sentence that names the processes and what to do."""
    pids = holders(address)
    if not pids:
        return "the address is in use by a process of another user or container. Stop that process, or choose another address."
    who = "process" if len(pids) == 1 else "processes"
    numbers = ", ".join(map(str, pids))
    return f"the address is in use by {who} {numbers}. Stop them (workers outlive a killed master), or choose another address."


def holders(address: Address) -> list[int]:
    """Return the pids of processes that listen on the port or the path, as far as this user may see."""
    inodes = set(_unix_inodes(address.path) if address.path else _tcp_inodes(address.port))
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return sorted(pid for pid in _pids() if pid != os.getpid() and not wanted.isdisjoint(_links(pid)))


def _bind_error(address: Address) -> OSError | None:
    if address.path:
        return _unix_error(address.path)
    try:
        family, target = address.resolve()
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        return error
    return None


def _place(address: Address) -> tuple[str, int] | None:
    """Return what two addresses cannot share: host and port, or a path and 0. None for a descriptor, port 0, or an unknown host."""
    if address.path:
        return str(Path(address.path).absolute()), 0
    if address.port:
        with suppress(OSError):  # the server that binds it reports the error
            _, target = address.resolve()
            return target if isinstance(target, tuple) else None
    return None


def _collide(first: tuple[str, int] | None, second: tuple[str, int] | None) -> bool:
    if first is None or second is None or first[1] != second[1]:
        return False
    hosts = {first[0], second[0]}
    return len(hosts) == 1 or (first[1] > 0 and (ANY_IPV6 in hosts or (ANY in hosts and not any(":" in host for host in hosts))))


def _unix_error(path: str) -> OSError | None:
    """Gunicorn removes a socket file that it finds: make sure that no server listens on it."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.bind(path)
        Path(path).unlink()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:  # no such directory, no right to it, too long a path
            return error
    else:
        return None
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return FileExistsError(errno.EEXIST, "the path is a file that is not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as error:
        return error
    return OSError(errno.EADDRINUSE, "a server answers there")


def _tcp_inodes(port: int) -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                    yield words[9]


def _unix_inodes(path: str) -> Iterator[str]:
    with suppress(OSError):
        for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
            words = line.split(maxsplit=7)
            if len(words) == 8 and words[7] == path:
                yield words[6]


def _pids() -> list[int]:
    with suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return []


def _links(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    # A process may end at any moment, or belong to another user.
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                yield os.readlink(f"{folder}/{name}")
