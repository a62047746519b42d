"""The slot lease: a process owns slot n while it holds byte n of the lock file, and the kernel frees it on any death."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from monitoring.multiprocess.linux import file_lock, fork, regular_file

from . import lock_file, paths, run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Lease:
    """Slot `slot`, held by the mapping at `address` for as long as this process lives (or until `release`)."""

    slot: int
    address: int
    #: Device and inode of the lock file.
    file: tuple[int, int]

    def stands(self, directory: Path) -> bool:
        """Whether the lock file of the directory is still the one in which this lease is held."""
        try:
            found = os.lstat(directory / paths.LOCK)
        except OSError as error:
            return error.errno in regular_file.LACKING
        return (found.st_dev, found.st_ino) == self.file

    def release(self) -> None:
        """Release the slot early. Never in a forked child."""
        file_lock.drop(self.address)


def take(directory: Path, former: int | None = None) -> Lease:
    """Take the lowest free slot and clean it; OSError where the directory cannot be used.

    A process whose slot was `former` until the lock file was removed takes that slot again, or one that has no files: the holder of a
    slot with files may not know yet that its lock is void.

    The second byte is locked last: a view shows a slot's live gauges only while it is held, so never those of a former holder.
    """
    with fork.mutex:
        fd = lock_file.open_lock_file(directory)
        try:
            file_lock.lock(fd, lock_file.START, shared=True, patience=lock_file.WRITER_PATIENCE)
            while run.read(directory).clearing:
                file_lock.unlock(fd, lock_file.START)
                run.finish_clearing(directory)
                file_lock.lock(fd, lock_file.START, shared=True, patience=lock_file.WRITER_PATIENCE)
            slot = next((n for n in _candidates(directory, former) if file_lock.try_lock(fd, n)), None)
            if slot is None:
                message = f"all {lock_file.SLOTS} slots of {directory} are taken"
                raise OSError(message)
            _clean(directory, slot)
            file_lock.lock(fd, lock_file.CLEAN + slot)
            address = file_lock.hold(fd)
            file_lock.unlock(fd, lock_file.START)
            info = os.fstat(fd)
            return Lease(slot, address, (info.st_dev, info.st_ino))
        finally:
            os.close(fd)


def living_slots(directory: Path) -> tuple[set[int], set[int]]:
    """The slots that are held, and those of them that are clean. The lock file is opened each time: a kept descriptor may have been closed.

    No slots where the lock file is missing. PermissionError where this user may not read it; OSError where this process lacks descriptors.
    """
    try:
        fd = lock_file.open_lock_file(directory, write=False)
    except OSError as error:
        if error.errno in regular_file.LACKING or isinstance(error, PermissionError):
            raise
        return set(), set()
    try:
        held = file_lock.held_bytes(fd, 0, lock_file.SLOTS)
        clean = {n for n in held if file_lock.holder(fd, lock_file.CLEAN + n)}
    finally:
        os.close(fd)
    return held, clean


def _candidates(directory: Path, former: int | None) -> Iterable[int]:
    if former is None:
        return range(lock_file.SLOTS)
    used = set(map(paths.slot_of, os.listdir(directory)))
    return chain([former], (n for n in range(lock_file.SLOTS) if n not in used and n != former))


def _clean(directory: Path, slot: int) -> None:
    for name in os.listdir(directory):
        if paths.ends_with_worker(name, slot):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(directory / name)
