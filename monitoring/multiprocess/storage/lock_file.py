"""Open-file-description locks on the bytes of one lock file.

The kernel frees such a lock when the last reference to its open file goes, on any kind of death, so nothing here needs a clean-up
hook. A lock that must outlive its descriptor is kept by a mapping of the file (`hold`), which no code can close by number and no
forked child inherits.

Byte layout of `lease.lock`: slot n is byte n; `CLEAN + n` says that slot n has been cleaned; then single bytes. All below `START`
belongs to the living. A role (election.py) is the byte `ROLES` + a 40-bit hash of its name, far above: holding one keeps no run alive.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import time
from typing import TYPE_CHECKING

from monitoring.multiprocess.linux import file_owner, mmap
from monitoring.multiprocess.linux.fork import mutex as mutex

from . import paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOTS = 1 << 20
CLEAN = SLOTS
RUN = 2 * SLOTS
FAMILIES = RUN + 1
#: Taken shared while a slot is taken, exclusively while a run is joined or cleared. Everything below it belongs to the living.
START = RUN + 2
#: Held while samples of other slots are edited (removed), and while a file with samples in it is replaced by another.
EDIT = START + 1
#: Guards the log of series that the cap counts.
SERIES = START + 2
ROLES = 1 << 42
#: A view that writes how long its merges took holds one of these: it is nobody of the run.
VIEWS = START + 64
MOST_VIEWS = 1024

#: Seconds that a process which serves waits for a byte of another: its requests stand still meanwhile.
WRITER_PATIENCE = 3.0

_FLOCK = struct.Struct("hhqqi4x")


def open_lock_file(directory: Path, *, write: bool = True) -> int:
    """Open the directory's lock file (made where missing, if `write`) and return its descriptor; OSError says why not."""
    path, flags = directory / paths.LOCK, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            if not write:
                raise
        # Who may list the directory may see who is alive, as an exporter of another user has to.
        mode = 0o600 | stat.S_IMODE(os.stat(directory).st_mode) & 0o044
        with contextlib.suppress(FileExistsError):
            return file_owner.create(path, mode)


def try_lock(fd: int, start: int, length: int = 1, *, shared: bool = False) -> bool:
    """Lock `length` bytes from `start` without waiting; False when somebody else holds any of them."""
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def lock(fd: int, start: int, *, shared: bool = False, patience: float = 30.0) -> None:
    """Lock one byte, waiting for its holder; TimeoutError after `patience` seconds.

    It polls instead of blocking in the kernel, so that a stopped holder cannot stop everybody else for ever.
    """
    deadline = time.monotonic() + patience
    pause = 0.0005
    while not try_lock(fd, start, shared=shared):
        if time.monotonic() > deadline:
            message = f"byte {start} of {paths.LOCK} has been locked by another process for {patience:g} s; is that process stopped?"
            raise TimeoutError(errno.ETIMEDOUT, message)
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


@contextlib.contextmanager
def alone(directory: Path, position: int, *, patience: float = WRITER_PATIENCE) -> Iterator[bool]:
    """Hold one byte while in here, away from forks; without patience tell whether it was free, else TimeoutError says that it was not."""
    with mutex:
        fd = open_lock_file(directory)
        try:
            if patience:
                lock(fd, position, patience=patience)
                yield True
            else:
                yield try_lock(fd, position)
        finally:
            os.close(fd)


def unlock(fd: int, start: int, length: int = 1) -> None:
    """Give back what this descriptor holds of these bytes."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, start, length, 0))


def holder(fd: int, start: int, length: int = 1) -> tuple[int, int] | None:
    """The (start, length) of a lock that another open file holds within these bytes, or None.

    Ask through a descriptor of its own: a lock never conflicts with the descriptor that took it.
    """
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0))
    kind, _, at, size, _ = _FLOCK.unpack(answer)
    return None if kind == fcntl.F_UNLCK else (at, size)


def held_bytes(fd: int, start: int, end: int) -> set[int]:
    """Every byte of [start, end) that another open file holds by a lock of its own (wider locks are not leases)."""
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
    """Keep this descriptor's locks beyond its closing, by a mapping that forked children do not get; returns its address.

    The caller holds `mutex` from the lock to the closing of the descriptor: a fork in between would hand the descriptor on.
    """
    address = mmap.share(fd, mmap.PAGE, paths.LOCK)
    mmap.keep_from_children(address, mmap.PAGE, paths.LOCK)
    return address


def drop(address: int) -> None:
    """End a `hold`: its locks go with the mapping. Never call it in a forked child, where the address means nothing."""
    mmap.unmap(address, mmap.PAGE)
