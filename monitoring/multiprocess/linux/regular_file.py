"""Open regular files only. Symlinks, FIFOs and directories are refused without blocking."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Errors that concern this process at the moment, and not the file.
LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def inode_and_size(path: str) -> tuple[int, int] | str:
    """Return the inode and size of the regular file at a path, or why there is none: missing, not_regular, unreadable."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"
    return (found.st_ino, found.st_size) if stat.S_ISREG(found.st_mode) else "not_regular"


def opened(path: Path | str) -> int | str:
    """Return a descriptor of the regular file at a path, or why there is none: missing, not_regular, unreadable.

    OSError where this process lacks descriptors or memory.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        if error.errno in LACKING:
            raise
        return "not_regular" if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR) else "unreadable"
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return "not_regular"
    return fd


def read(path: Path | str) -> tuple[bytes, int] | str:
    """Return the bytes and inode of a regular file, or the reason why there are none, like `opened`.

    OSError where this process lacks descriptors or memory: the file may be intact, and must not be replaced.
    """
    fd = opened(path)
    if isinstance(fd, str):
        return fd
    try:
        info = os.fstat(fd)
        return part(fd, 0, info.st_size), info.st_ino
    except OSError as error:
        if error.errno in LACKING:
            raise
        return "unreadable"
    finally:
        os.close(fd)


def part(fd: int, start: int, end: int) -> bytes:
    """Return the bytes of a file from `start` to `end`, fewer where it has fewer."""
    content = os.pread(fd, end - start, start)
    while start + len(content) < end:
        more = os.pread(fd, end - start - len(content), start + len(content))
        if not more:
            break
        content += more
    return content
