"""Who listens on an address that a new master wants: the pids, so that an operator knows what to end.

Orphans of a killed master go on serving; a new master on their address cannot start until they are gone.
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

_LISTEN = "0A"
_ANY, _ANY_6 = "0.0.0.0", "::"
_PAUSE_SECONDS = 0.05


class AddressInUseError(ValueError):
    """An address cannot be bound; the text is one line that names who holds it."""


def require_free(address: str, said: str, patience_seconds: float = 2.0) -> None:
    """Return when `address` could be bound; wait a little for a server that is just ending, then raise AddressInUseError."""
    deadline = time.monotonic() + patience_seconds
    while error := _bind_error(address):
        if error.errno != errno.EADDRINUSE:
            message = f"{said}: cannot listen there: {error.strerror or error}"
            raise AddressInUseError(message)
        if time.monotonic() >= deadline:
            raise AddressInUseError(f"{said}: {in_use(address)}")
        time.sleep(_PAUSE_SECONDS)


def require_apart(assignments: list[str]) -> None:
    """Return where no two of these `VARIABLE=address` need the same place; else raise AddressInUseError with both."""
    for said, other in combinations(assignments, 2):
        if _collide(_place(said.partition("=")[2]), _place(other.partition("=")[2])):
            message = f"{said} and {other} are the same address; give them different ones"
            raise AddressInUseError(message)


def in_use(address: str) -> str:
    """Say in words who holds an address."""
    pids = holders(address)
    if not pids:
        return "the address is in use by a process of another user or container; choose another address, or end that process"
    who = "process" if len(pids) == 1 else "processes"
    numbers = ", ".join(map(str, pids))
    return f"the address is in use by {who} {numbers}; end them (workers outlive a killed master), or choose another address"


def holders(address: str) -> list[int]:
    """Give the pids that have a socket open that listens on this address, as far as this user may see."""
    inodes = set(_unix_inodes(address) if address.startswith("unix:") else _tcp_inodes(int(address.rpartition(":")[2])))
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return sorted(pid for pid in _pids() if pid != os.getpid() and not wanted.isdisjoint(_links(pid)))


def _bind_error(address: str) -> OSError | None:
    if address.startswith("unix:"):
        return _unix_error(address.removeprefix("unix:"))
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, target = found[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        return error
    return None


def _place(address: str) -> tuple[str, int] | None:
    """Give the host, as a number, and the port of an address, or a socket's path and 0; None where it takes no place that is known."""
    if address.startswith("unix:"):
        return str(Path(address.removeprefix("unix:")).absolute()), 0
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if address.startswith("fd://") or not port.isdecimal() or int(port) == 0:
        return None
    with suppress(OSError):  # whoever binds it says what is wrong with it
        found = socket.getaddrinfo(host.strip("[]") or _ANY, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return str(found[0][4][0]), int(port)
    return None


def _collide(first: tuple[str, int] | None, second: tuple[str, int] | None) -> bool:
    if first is None or second is None or first[1] != second[1]:
        return False
    hosts = {first[0], second[0]}
    return len(hosts) == 1 or (first[1] > 0 and (_ANY_6 in hosts or (_ANY in hosts and not any(":" in host for host in hosts))))


def _unix_error(path: str) -> OSError | None:
    """Gunicorn removes a socket file that it finds: make sure that nobody serves it any more."""
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
            return FileExistsError(errno.EEXIST, "there is a file that is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as error:
        return error
    return OSError(errno.EADDRINUSE, "somebody answers there")


def _tcp_inodes(port: int) -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                    yield words[9]


def _unix_inodes(address: str) -> Iterator[str]:
    path = address.removeprefix("unix:")
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
    # A process may end, or be another user's, at any moment.
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                yield os.readlink(f"{folder}/{name}")
