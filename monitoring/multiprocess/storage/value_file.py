"""The value files of a slot's holder: mapped for writing, continued, grown, and rewritten without removed samples."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.multiprocess.linux import file_owner, regular_file
from monitoring.multiprocess.linux.writable_mapping import WritableMapping

from . import lock_file, paths
from .record_format import INITIAL_BYTES, SALVAGE_BITS, Lineage, Scan, blank, capacity_for, encode, intact, lineage, rebuild, removed, scan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["INITIAL_BYTES", "ValueFile", "encode", "scan"]

_INT = struct.Struct("i")
_HAVE_BASE = ("gauge_max", "gauge_min", "gauge_sum")


class ValueFile:
    """The file of one type (and gauge mode) in one slot, mapped for writing by the slot's holder.

    It continues what a former holder left, after salvaging the records before any damage. Growth maps the whole file once more and
    keeps the older mapping: both show the same pages, so no cell has to move. Where removed records take a good part of a file that
    would have to grow, it is rewritten without them instead, all its views end, and `moved` is called with them. Raises OSError
    (ENOSPC) where blocks lack.
    """

    def __init__(self, path: Path, moved: Callable[[ValueFile, list[memoryview[float]]], None] | None = None) -> None:
        self.path = path
        self.cells: dict[str, tuple[memoryview[float], int]] = {}
        self.found: dict[str, tuple[float, float]] = {}
        self._moved = moved
        self._prefix = path.name.rpartition("_")[0]
        self._blank = blank(self._prefix)
        self._temporary = paths.temporary(path)
        self._mappings: list[WritableMapping] = []
        self._salvaged = False
        fd, data = self._open()
        try:
            os.posix_fallocate(fd, 0, os.fstat(fd).st_size)
            self._map(fd)
        finally:
            os.close(fd)
        result = scan(data)
        self._take(result)
        self.found = {record.key.decode(): (record.value, record.timestamp) for record in result.records}
        if self._prefix in _HAVE_BASE:
            self._set_bases()
        if self._wasteful() and not self._salvaged:
            # Not just after a salvage: a view that saw neither the removal nor the damage needs the removed samples to distinguish the two.
            self._rewrite(0)

    def ensure(self, keys: Sequence[str]) -> list[tuple[memoryview[float], int]]:
        """The (doubles, index) of each key's value, its timestamp one further; new keys are added together or, with OSError, not at all."""
        missing = [key for key in dict.fromkeys(keys) if key not in self.cells]
        if missing:
            records = [encode(key, *self._blank) for key in missing]
            total = sum(map(len, records))
            if self._used + total > self._capacity and not (self._wasteful() and self._rewrite(total, keys)):
                self._grow(self._used + total)
            ends = []
            position = self._used
            for record in records:
                self._bytes[position : position + len(record)] = record
                position += len(record)
                ends.append(position)
            self._publish(position)
            for key, end in zip(missing, ends, strict=True):
                self.cells[key] = (self._doubles, (end - 16) // 8)
        return [self.cells[key] for key in keys]

    def forget(self) -> None:
        """In a forked child: end every access through this object; the mappings themselves stayed with the parent."""
        for mapping in self._mappings:
            mapping.end()

    def close(self) -> None:
        """End every access through this object and unmap the pages. The file stays."""
        for mapping in self._mappings:
            mapping.unmap()

    @property
    def _bytes(self) -> memoryview[int]:
        return self._mappings[-1].bytes

    @property
    def _doubles(self) -> memoryview[float]:
        return self._mappings[-1].doubles

    def _publish(self, used: int) -> None:
        self._bytes[0:4] = _INT.pack(used)
        self._used = used

    def _take(self, result: Scan) -> None:
        self._used = result.used
        self.cells = {record.key.decode(): (self._doubles, record.position // 8) for record in result.records}

    def _set_bases(self) -> None:
        """Store the base that the former holders left in each timestamp. A concurrent removal writes the value first: it is read again."""
        for view, index in self.cells.values():
            view[index + 1] = self._blank[1] if removed(view[index]) else view[index]
            if removed(view[index]):
                view[index + 1] = self._blank[1]

    def _open(self) -> tuple[int, bytes]:
        content = regular_file.read(self.path)
        if not isinstance(content, str) and intact(content[0]):
            return os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW), content[0]
        rebuilt = rebuild([])
        if content != "missing":
            # A removal of series waits: it must not write into a file that is being replaced.
            with lock_file.alone(self.path.parent, lock_file.EDIT):
                content = regular_file.read(self.path)
                self._salvaged = True
                before = b"" if isinstance(content, str) else content[0]
                was = lineage(before)
                rebuilt = rebuild(scan(before).records, Lineage(was.salvages + 1 if was else random.getrandbits(SALVAGE_BITS), 0))
                return self._create(rebuilt), rebuilt
        return self._create(rebuilt), rebuilt

    def _create(self, data: bytes) -> int:
        fd = self._write_temporary(data)
        try:
            os.rename(self._temporary, self.path)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _write_temporary(self, data: bytes) -> int:
        fd = file_owner.recreate(self._temporary)
        try:
            os.posix_fallocate(fd, 0, len(data))
            written = 0
            while written < len(data):
                written += os.pwrite(fd, data[written:], written)
        except BaseException:
            os.close(fd)
            os.unlink(self._temporary)
            raise
        return fd

    def _grow(self, needed: int) -> None:
        # Reopened by name: a kept descriptor may have been closed, and its number may be another file by now.
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if _identity(fd) != self._inode:
                raise OSError(
                    errno.ESTALE,
                    f"{self.path} was replaced by another process while this one wrote it",
                )
            os.posix_fallocate(fd, 0, capacity_for(needed, self._capacity))
            self._map(fd)
        finally:
            os.close(fd)

    def _map(self, fd: int) -> None:
        capacity = os.fstat(fd).st_size
        self._mappings.append(WritableMapping(fd, capacity, self.path))
        self._capacity = capacity
        self._inode = _identity(fd)

    def _wasteful(self) -> bool:
        """Whether removed samples take a quarter of the file, or more: then a rewrite pays for itself."""
        gone = sum(1 for view, index in self.cells.values() if removed(view[index]))
        return gone * 4 >= len(self.cells) > 0

    def _rewrite(self, room: int, kept: Sequence[str] = ()) -> bool:
        """Replace the file by one without its removed samples (but `kept`) and with room for more; False where it stays as it was.

        No process writes during the replacement: the writers of this process find their views ended and wait for the mutex, and a removal
        of series waits for the byte. If the process is killed at any time, the old file or the new one is there, whole.
        """
        try:
            with lock_file.alone(self.path.parent, lock_file.EDIT, patience=0.0) as alone:
                return alone and _identity(self.path) == self._inode and self._rewrite_now(room, frozenset(kept))
        except OSError:
            return False

    def _rewrite_now(self, room: int, kept: frozenset[str]) -> bool:
        former, ended = self._mappings, [mapping.doubles for mapping in self._mappings]
        for mapping in former:
            mapping.end()
        try:
            with contextlib.suppress(OSError):
                self._replace(former[-1].content(self._used), room, kept)
        finally:
            replaced = self._mappings is not former
            if not replaced:
                self._mappings = [former.pop()]
                self._mappings[0].begin()
            self._take(scan(self._mappings[0].content(self._used)))
            if self._moved:
                self._moved(self, ended)
            for mapping in former:
                mapping.unmap()
        return replaced

    def _replace(self, data: bytes, room: int, kept: frozenset[str]) -> None:
        was = lineage(data)
        assert was is not None
        records = [record for record in scan(data).records if not removed(record.value) or record.key.decode() in kept]
        rebuilt = rebuild(records, Lineage(was.salvages, was.rewrites + 1), room)
        fd = self._write_temporary(rebuilt)
        try:
            # Mapped before it has its name: after the rename nothing can fail.
            mapping, inode = WritableMapping(fd, len(rebuilt), self.path), _identity(fd)
            try:
                os.rename(self._temporary, self.path)
            finally:
                # Also where a signal handler raised: the directory shows which file it is.
                if _identity(self.path) == inode:
                    self._mappings = [mapping]
                    self._inode, self._capacity, self._used = inode, len(rebuilt), _INT.unpack_from(rebuilt)[0]
        finally:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)


def _identity(file: Path | int) -> tuple[int, int] | None:
    try:
        info = os.lstat(file) if isinstance(file, Path) else os.fstat(file)
    except OSError:
        return None
    return info.st_dev, info.st_ino
