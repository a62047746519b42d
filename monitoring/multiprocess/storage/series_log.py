"""The label sets of all workers: a log that each process follows, so that a limit on a family's series holds for all of them together.

`series.log` holds a header and records of (family hash and kind, label set hash), appended under a lock byte. A process reads what
was appended since it last looked only before it decides about a label set that it does not know, or where a label set is gone;
whether one is gone is one load from the mapped header.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import struct
from typing import TYPE_CHECKING, Any

from monitoring.multiprocess.linux import file_owner, regular_file
from monitoring.multiprocess.linux.writable_mapping import WritableMapping

from . import declarations, lock_file, paths
from .record_format import removed, scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

OTHER = "_other"
"""The value of every label of the series that counts for refused label sets."""

_HEADER = struct.Struct("=QQ8sQ")
_RECORD = struct.Struct("=QQ")
_MAGIC = b"series1\n"
#: The count in the header of a log that has been replaced.
_REPLACED = (1 << 64) - 1
_CHUNK = 1 << 16
_GONE = 1
GONE = 3
"""The word of the header that counts removals."""


def identity(family: str) -> int:
    """The hash of a family's name: even, so that the lowest bit can mark a label set that is gone."""
    return _hash(family) & ~_GONE


def label_set(labels: dict[str, str]) -> int:
    """The hash of a label set."""
    return _hash(json.dumps(sorted(labels.items())))


class SeriesLog:
    """The log of `directory` as this process knows it. Every method raises OSError where the log cannot be read or written."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / paths.SERIES_LOG
        self._mapping: WritableMapping | None = None
        self._inode = self._generation = self._held = 0
        self._reload = True
        self.known: dict[int, set[int]] = {}
        #: The header: how many records, generation, magic, how many of them are removals.
        self.words: memoryview[int]
        self._seen = 0
        #: `words[GONE] == removals` while no known label set is gone.
        self.removals = 0
        self.forget()

    def forget(self) -> None:
        """In a forked child: forget the parent's mapping. The label sets that it had read stay known."""
        if self._mapping is not None:
            self.words.release()
            self._mapping.end()
        self._mapping = None
        self._held = 0
        self.words = memoryview(bytearray(_HEADER.size)).cast("Q")
        self.words[0] = self.words[GONE] = _REPLACED

    @property
    def busy(self) -> bool:
        """Whether this process is in the middle of a change: a signal handler has to leave the log alone then."""
        return self._held > 0

    def follow(self) -> list[tuple[int, int]]:
        """Read the new records, and return the (family, label set) that are gone since, in order."""
        while True:
            if self._mapping is None and not self._open():
                self._repair()
            removals, count = self.words[GONE], self.words[0]
            if count == _REPLACED:
                self._close()
                continue
            gone = self._read(count)
            if gone is not None:
                self.removals = removals
                return gone
            self._close()
            self._repair()

    def add(self, family: int, labels: int, cap: int) -> tuple[bool, list[tuple[int, int]]]:
        """Whether the label set may exist (a new one while the family has fewer than `cap`), and the removals since, as `follow`."""
        gone = self.follow()
        known = self.known.setdefault(family, set())
        if labels in known or len(known) >= cap:
            return labels in known, gone
        with self._alone():
            gone += self.follow()
            known = self.known.setdefault(family, set())
            if labels in known or len(known) >= cap:
                return labels in known, gone
            self._append([(family, labels)])
            known.add(labels)
        return True, gone

    @contextlib.contextmanager
    def removing(self, family: int, labels: Iterable[int] | None) -> Iterator[list[tuple[int, int]]]:
        """Note that these label sets (None: all of the family) are gone. No process adds one again before the block ends.

        Yields the label sets that are gone since, as `follow`.
        """
        with self._alone():
            news = self.follow()
            known = self.known.get(family, set())
            gone = sorted(known if labels is None else known.intersection(labels))
            if gone:
                self._append([(family | _GONE, each) for each in gone])
                self.words[GONE] = self.removals = self.removals + len(gone)
                known.difference_update(gone)
                if self._seen > 2 * sum(map(len, self.known.values())) + _CHUNK // _RECORD.size:
                    self._replace(self.known)
                    self.follow()
            yield news

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._held:
            yield
            return
        with lock_file.alone(self._path.parent, lock_file.SERIES):
            self._held += 1
            try:
                if self._mapping is not None and _inode(self._path) != self._inode:
                    self._close()  # removed from outside
                yield
            finally:
                self._held -= 1

    def _repair(self) -> None:
        with self._alone():
            if not self._open() or self.words[0] < self._seen:
                self._close()
                self._replace(self._from_files())

    def _open(self) -> bool:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        try:
            size = os.fstat(fd).st_size
            head = os.pread(fd, _HEADER.size, 0)
            if len(head) < _HEADER.size:
                return False
            count, generation, magic, _ = _HEADER.unpack(head)
            if magic != _MAGIC or count == _REPLACED or _HEADER.size + count * _RECORD.size > size:
                return False
            self._mapping = WritableMapping(fd, _HEADER.size, self._path)
            self._inode = os.fstat(fd).st_ino
        finally:
            os.close(fd)
        self.words = self._mapping.bytes.cast("Q")
        if generation != self._generation:
            self._generation, self._seen, self._reload = generation, 0, True
        return True

    def _close(self) -> None:
        if self._mapping is not None:
            self.words.release()
            self._mapping.unmap()
        self._mapping = None

    def _read(self, count: int) -> list[tuple[int, int]] | None:
        """As `follow`; None where the log is damaged."""
        if count == self._seen and not self._reload:
            return []
        data = self._content(self._seen, count) if count >= self._seen else b""
        if len(data) != (count - self._seen) * _RECORD.size:
            return None
        before = self.known if self._reload else {}
        if self._reload:
            self.known = {}
        gone: list[tuple[int, int]] = []
        for family, labels in _RECORD.iter_unpack(data):
            if family & _GONE:
                self.known.setdefault(family & ~_GONE, set()).discard(labels)
                gone.append((family & ~_GONE, labels))
            else:
                self.known.setdefault(family, set()).add(labels)
        self._seen, self._reload = count, False
        # A log that was replaced has no removals: the known label sets that it lacks are gone.
        gone += [(family, each) for family, had in before.items() for each in had - self.known.get(family, set())]
        return gone

    def _content(self, begin: int, end: int) -> bytes:
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            length = (end - begin) * _RECORD.size
            if length > os.fstat(fd).st_size:
                return b""
            return os.pread(fd, length, _HEADER.size + begin * _RECORD.size)
        finally:
            os.close(fd)

    def _append(self, entries: list[tuple[int, int]]) -> None:
        """With the lock held and everything read."""
        data = b"".join(_RECORD.pack(*entry) for entry in entries)
        position = _HEADER.size + self._seen * _RECORD.size
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if position + len(data) > os.fstat(fd).st_size:
                os.posix_fallocate(fd, 0, -(-(position + len(data)) // _CHUNK) * _CHUNK)
            os.pwrite(fd, data, position)
        finally:
            os.close(fd)
        self._seen += len(entries)
        self.words[0] = self._seen

    def _replace(self, known: dict[int, set[int]]) -> None:
        """Replace the log by one of just these label sets, and mark the old one, which others have mapped. The lock is held."""
        entries = [_RECORD.pack(family, labels) for family, sets in known.items() for labels in sorted(sets)]
        generation = random.getrandbits(63) + 1
        data = _HEADER.pack(len(entries), generation, _MAGIC, 0) + b"".join(entries)
        temporary = paths.temporary(self._path)
        fd = file_owner.recreate(temporary)
        try:
            os.posix_fallocate(fd, 0, -(-len(data) // _CHUNK) * _CHUNK)
            os.pwrite(fd, data, 0)
            os.rename(temporary, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        finally:
            os.close(fd)
        if self._mapping is not None:
            self.words[0] = self.words[GONE] = _REPLACED
            self._close()
        if not self._open():
            raise OSError(errno.EIO, f"{self._path} cannot be read back as it was written")

    def _from_files(self) -> dict[int, set[int]]:
        """The label sets of a missing or damaged log: those of all samples in the slots' files."""
        declared = declarations.read(self._path.parent)
        known: dict[int, set[int]] = {}
        for name in os.listdir(self._path.parent):
            content = regular_file.read(self._path.parent / name) if paths.slot_of(name) is not None else ""
            for record in scan(content[0]).records if not isinstance(content, str) else ():
                if not removed(record.value):
                    _note(record.key, declared, known)
        return known


def clear(directory: Path) -> None:
    """Remove the log at the end of its run. OSError if that fails."""
    path = directory / paths.SERIES_LOG
    with contextlib.suppress(FileNotFoundError):
        with contextlib.suppress(OSError), path.open("r+b", buffering=0) as file:
            file.write(_HEADER.pack(_REPLACED, 0, _MAGIC, _REPLACED))
        os.unlink(path)


def label_names(family: str, labels: Iterable[str], declared: Mapping[str, declarations.Family]) -> list[str]:
    """Those of a sample's labels that are the family's own: not a histogram's `le`, nor the labels that an Info or Enum adds."""
    if family in declared:
        return [name for name in labels if name in declared[family].labels]
    return [name for name in labels if name != "le"]


def _note(key: bytes, declared: Mapping[str, declarations.Family], known: dict[int, set[int]]) -> None:
    try:
        content: Any = json.loads(key)
        family, labels = content[0], content[2]
        own = {name: labels[name] for name in label_names(family, labels, declared)}
        if own and not all(value == OTHER for value in own.values()) and not family.startswith("multiproc_"):
            known.setdefault(identity(family), set()).add(label_set(own))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return


def _inode(path: Path) -> int:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return 0


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
