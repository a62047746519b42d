"""The lock file of a metrics directory, `lease.lock`: the meaning of its bytes.

Slot n is byte n; `CLEAN + n` means that slot n has been cleaned; single bytes follow. A process that holds any byte
below `START` keeps the run alive. The byte of a role (worker/election.py) is `ROLES` + a 40-bit hash of its name, far above: holding
one keeps no run alive.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from monitoring.multiprocess.linux import file_lock, file_owner, fork

from . import paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOTS = 1 << 20
CLEAN = SLOTS
RUN = 2 * SLOTS
FAMILIES = RUN + 1
#: Taken shared while a slot is taken, exclusively while a run is joined or cleared. Holding any byte below it keeps the run alive.
START = RUN + 2
#: Held while samples of other slots are edited (removed), and while a file with samples in it is replaced by another.
EDIT = START + 1
#: Guards the log of series that the cap counts.
SERIES = START + 2
ROLES = 1 << 42
#: A view that writes the time of its merges holds one of these. It does not keep the run alive.
VIEWS = START + 64
MOST_VIEWS = 1024

#: How long a serving process waits for a byte that another process holds, in seconds: its requests wait as well.
WRITER_PATIENCE = 3.0


def open_lock_file(directory: Path, *, write: bool = True) -> int:
    """Open the directory's lock file, made if it is missing and `write`, and return its descriptor. OSError if that fails."""
    path, flags = directory / paths.LOCK, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            if not write:
                raise
        # A user that may list the directory may see which slots are held, as the exporter of another user must.
        mode = 0o600 | stat.S_IMODE(os.stat(directory).st_mode) & 0o044
        with contextlib.suppress(FileExistsError):
            return file_owner.create(path, mode)


@contextlib.contextmanager
def alone(directory: Path, position: int, *, patience: float = WRITER_PATIENCE) -> Iterator[bool]:
    """Hold one byte, and keep forks away, for the block. Without patience yield whether the byte was free; otherwise TimeoutError."""
    with fork.mutex:
        fd = open_lock_file(directory)
        try:
            if patience:
                file_lock.lock(fd, position, patience=patience)
                yield True
            else:
                yield file_lock.try_lock(fd, position)
        finally:
            os.close(fd)
