"""The Unix socket in the metrics directory on which workers reach the exporter.

Both sides reach it through `/proc/self/fd/<descriptor of the directory>`, since the path of a socket is limited to 107 bytes. A rename
puts it in place, so that it is never missing while one exporter replaces another. Only the exporter's user can connect. A leaving
exporter removes the socket only if it is its own.
"""

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from monitoring.multiprocess import paths

NAME = paths.EXPORTER_SOCKET
_TEMPORARY = str(paths.temporary(Path(NAME)))
_BACKLOG = 128
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid


def connect(directory: str) -> socket.socket:
    """Connect to the exporter of a metrics directory without waiting. The socket does not block.

    Raise BlockingIOError if the exporter's queue is full, PermissionError if another user owns the socket, and OSError if the socket is
    missing or has no listener.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        with _opened(directory) as fd:
            client.connect(_path(fd, NAME))
        _, user, _ = _CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if user not in {0, os.geteuid()}:
            raise PermissionError(0, f"{NAME} belongs to user {user}")
    except BaseException:
        client.close()
        raise
    return client


class Rendezvous:
    """The exporter's end. `tend()` keeps its socket in place, also after the directory was replaced."""

    def __init__(
        self, locate: Callable[[], Path], listen: Callable[[socket.socket], None], unlisten: Callable[[socket.socket], None]
    ) -> None:
        """`locate` finds the directory; `listen` and `unlisten` start and stop accepting on a socket."""
        self._locate = locate
        self._listen = listen
        self._unlisten = unlisten
        self._socket: socket.socket | None = None
        self._directory: tuple[int, int] | None = None
        self._inode: tuple[int, int] | None = None

    def tend(self) -> None:
        """Put the socket in place, unless it or that of another living exporter is there. Without room or permission there is none."""
        try:
            with _opened(self._locate()) as fd:
                here = _identity(os.fstat(fd))
                new, self._directory = here != self._directory, here
                if not new and (self._is_ours(fd) or _alive(fd)):
                    return
                self._let_go()
                self._put(fd)
        except OSError:
            self._let_go()

    def leave(self) -> None:
        """Remove the socket if it is this exporter's, and stop accepting on it."""
        with suppress(OSError), _opened(self._locate()) as fd:
            if self._is_ours(fd):
                os.unlink(NAME, dir_fd=fd)
        self._let_go()

    def _is_ours(self, fd: int) -> bool:
        with suppress(FileNotFoundError):
            return self._socket is not None and _identity(os.stat(NAME, dir_fd=fd, follow_symlinks=False)) == self._inode
        return False

    def _put(self, fd: int) -> None:
        with suppress(FileNotFoundError):
            os.unlink(_TEMPORARY, dir_fd=fd)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            before = os.umask(0o177)
            try:
                listening.bind(_path(fd, _TEMPORARY))
            finally:
                os.umask(before)
            listening.listen(_BACKLOG)
            self._inode = _identity(os.stat(_TEMPORARY, dir_fd=fd, follow_symlinks=False))
            os.replace(_TEMPORARY, NAME, src_dir_fd=fd, dst_dir_fd=fd)
        except OSError:
            listening.close()
            raise
        self._socket = listening
        self._listen(listening)

    def _let_go(self) -> None:
        if self._socket is not None:
            self._unlisten(self._socket)
            self._socket = None


def _path(fd: int, name: str) -> str:
    return f"/proc/self/fd/{fd}/{name}"


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _alive(fd: int) -> bool:
    """Whether an exporter listens on the socket in place."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(_path(fd, NAME))
        except (BlockingIOError, PermissionError):
            return True
        except OSError:
            return False
    return True


@contextmanager
def _opened(directory: str | os.PathLike[str]) -> Iterator[int]:
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
