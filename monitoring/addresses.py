"""Addresses of stream sockets: host:port, [ipv6]:port, unix:/path and fd://number.

A leaf: it imports nothing of this project, so that every package may import it, `multiprocess` included.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    Target = tuple[socket.AddressFamily, str | tuple[str, int]]

ANY, ANY_IPV6 = "0.0.0.0", "::"
_PORT_MAX = 65535


@dataclass(frozen=True)
class Address:
    """One address: a host and a port, the path of a Unix socket, or the number of an inherited descriptor.

    An empty host means every IPv4 address.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    descriptor: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse an address, with or without `tcp://` before a host. Raise ValueError if it has none of the forms."""
        kind, colon, rest = text.partition(":")
        if colon and kind == "unix" and rest.strip("/"):
            return cls(path=rest)
        if colon and kind == "fd" and _is_number(rest.removeprefix("//")) and rest.startswith("//"):
            return cls(descriptor=int(rest.removeprefix("//")))
        host, colon, port = text.removeprefix("tcp://").rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        bare = host[1:-1] if bracketed else host
        sound = bool(bare) if bracketed else ":" not in bare
        if colon and sound and not _has_separator(bare) and _is_number(port) and int(port) <= _PORT_MAX:
            return cls(host=bare, port=int(port))
        raise ValueError(f"{text!r} is not an address. Use host:port, [ipv6]:port, unix:/path or fd://number.")

    def resolve(self) -> Target:
        """Return the family and the address to bind. Raise OSError if the host cannot be resolved."""
        if self.path:
            return socket.AF_UNIX, self.path
        try:
            found = socket.getaddrinfo(self.host or ANY, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise OSError(error.errno, f"cannot resolve {self.host}: {error.strerror}") from None
        family, _, _, _, target = found[0]
        return family, (str(target[0]), int(target[1]))

    @property
    def is_loopback(self) -> bool:
        """Whether every peer is on this machine. A Unix socket does not count: a proxy in front connects to it for remote clients."""
        return not self.path and self.descriptor is None and is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Return whether a host without a port is this machine only."""
    import ipaddress  # slow to import, and an exporter that starts does not need it

    if host.lower() == "localhost":
        return True
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool(parsed.is_loopback or (mapped is not None and mapped.is_loopback))


def open_sockets() -> Iterator[socket.socket]:
    """Yield a duplicate of each socket that this process has open. It is closed when the next one is requested."""
    descriptors: list[str] = []
    with suppress(OSError):  # no /proc
        descriptors = os.listdir("/proc/self/fd")
    for descriptor in descriptors:
        with suppress(OSError):  # another thread may close the descriptor
            # Only sockets are duplicated: closing a duplicate of a file would end the POSIX locks of this process on it.
            if stat.S_ISSOCK(os.fstat(int(descriptor)).st_mode):
                with socket.socket(fileno=os.dup(int(descriptor))) as found:
                    yield found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _has_separator(host: str) -> bool:
    return any(character.isspace() or character in "[]/," for character in host)
