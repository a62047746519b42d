"""Open-file-description locks on single bytes of a file.

The kernel frees such a lock when the last reference to its open file goes, on any kind of death. A lock that must outlive its
descriptor is kept by a mapping of the file (`hold`), which no code can close by number and no forked child inherits.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time

from . import mmap

_FLOCK = struct.Struct("hhqqi4x")
_SUBJECT = "a lock file"


def try_lock(fd: int, start: int, length: int = 1, *, shared: bool = False) -> bool:
    """Lock `length` bytes from `start` without waiting; return False when another open file holds any of them."""
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def lock(fd: int, start: int, *, shared: bool = False, patience: float = 30.0) -> None:
    """Lock one byte, waiting for its holder; TimeoutError after `patience` seconds.

    It polls instead of blocking in the kernel, so that a stopped holder cannot stop all others forever.
    """
    deadline = time.monotonic() + patience
    pause = 0.0005
    while not try_lock(fd, start, shared=shared):
        if time.monotonic() > deadline:
            message = f"byte {start} of the lock file: locked by another process for {patience:g} s. Is that process stopped?"
            raise TimeoutError(errno.ETIMEDOUT, message)
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def unlock(fd: int, start: int, length: int = 1) -> None:
    """Unlock these bytes, if this descriptor holds them."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, start, length, 0))


def holder(fd: int, start: int, length: int = 1) -> tuple[int, int] | None:
    """Return the (start, length) of a lock that another open file holds within these bytes, or None.

    Ask through a separate descriptor: a lock never conflicts with the descriptor that took it.
    """
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0))
    kind, _, at, size, _ = _FLOCK.unpack(answer)
    return None if kind == fcntl.F_UNLCK else (at, size)


def held_bytes(fd: int, start: int, end: int) -> set[int]:
    """Return every byte of [start, end) that another open file holds by a lock of one byte (wider locks are not leases)."""
    found: set[int] = set()
    pending = [(start, end)]
    while pending:
        low, high = pending.pop()
        if low >= high:
            continue
        conflict = holder(fd, low, high - low)
        if conflict is None:
            continue
        at, size = conflict
        if size == 1:
            found.add(at)
        stop = at + size if size else high
        pending += [(low, min(at, high)), (max(low, stop), high)]
    return found


def hold(fd: int) -> int:
    """Keep the locks of this descriptor after it is closed, by a mapping that forked children do not get; return its address.

    The caller holds `fork.mutex` from the lock to the closing of the descriptor: a fork in between would hand the descriptor on.
    """
    address = mmap.share(fd, mmap.PAGE, _SUBJECT)
    mmap.keep_from_children(address, mmap.PAGE, _SUBJECT)
    return address


def drop(address: int) -> None:
    """End a `hold`: its locks go with the mapping. Never call it in a forked child, where the address means nothing."""
    mmap.unmap(address, mmap.PAGE)
