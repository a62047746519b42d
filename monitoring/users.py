"""Which users each worker has seen: noted in memory that survives the worker, and taken from there exactly once.

Every process has a mapped table of its own in the metrics directory: for each user (a 64-bit keyed hash, never a name) and window of
time, the requests and the moment of the last one. The table has two halves. Whoever takes (`take`) lets notes go to the other half and
reads the one that nobody writes to any more; the taker's database keeps the table's number and the half's with the sums, in one
transaction, so that what was taken already is known whoever is killed when. Only then is the half emptied. The table of a dead process
is continued by the next one that begins, or taken by whoever looks after the dead (`dead`).

Where there is no metrics directory, or its disk is full, the table is in the process's own memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import stat
import time
import weakref
from typing import TYPE_CHECKING, NamedTuple

from monitoring.multiprocess import paths
from monitoring.multiprocess.linux import readonly_mapping
from monitoring.multiprocess.linux.writable_mapping import Mapping
from monitoring.multiprocess.storage import lock_file
from monitoring.multiprocess.worker.slot_store import store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CAPACITY = 4096
"""So many users and windows fit into one half."""
TABLES = 4096

_MAGIC = int.from_bytes(b"users001", "little")
_MAGIC_AT, _NUMBER, _HALF, _EMPTIED = range(4)
_HEADER_WORDS = 8
_ENTRY_WORDS = 4
_HALF_WORDS = CAPACITY * _ENTRY_WORDS
_SIZE = 8 * (_HEADER_WORDS + 2 * _HALF_WORDS)
_USER, _WINDOW, _REQUESTS, _SEEN = range(_ENTRY_WORDS)
_LOCKED = 1 << 40
_AGAIN_SECONDS = 1.0
_log = logging.getLogger(__name__)
_told: set[str] = set()


class Note(NamedTuple):
    """What one process saw of one user in one window. `seen` is in milliseconds since 1970."""

    user: int
    window: int
    requests: int
    seen: int


class Taken(NamedTuple):
    """A half that nobody writes to: known by both numbers, of which `half` only grows."""

    table: int
    half: int
    notes: list[Note]


def hashed(user: str, key: bytes) -> int:
    """Give the 64-bit keyed hash of a user as a signed number, never 0."""
    return int.from_bytes(hashlib.blake2b(user.encode(), digest_size=8, key=key).digest(), "little", signed=True) or 1


_tables: weakref.WeakSet[Table] = weakref.WeakSet()


class Table:
    """The table of this process, opened at the first note. Not for several threads at once: notes are made in one event loop."""

    def __init__(self, window_seconds: int) -> None:
        self.window_seconds = window_seconds
        #: Notes for which there was no room.
        self.lost = 0
        self.forget()
        _tables.add(self)

    def forget(self) -> None:
        """Begin anew without a table, as a forked child does: its parent's is not mapped in it."""
        self._opened = False
        self._words: memoryview[int] = memoryview(bytearray(_SIZE)).cast("q")
        self._mapping: Mapping | None = None
        self._places: dict[int, int] = {}
        self._window = 0
        self._window_ends = 0.0
        self._free = 0
        self._end = 0
        self._again_at = 0.0

    def note(self, user: int) -> None:
        """Note a request of this user (a 64-bit signed number, not 0) at this moment."""
        now = time.time()
        at = self._places.get(user)
        if at is None or not self._window_ends - self.window_seconds <= now < self._window_ends:
            at = self._place(user, now)
            if at is None:
                self.lost += 1
                return
        words = self._words
        words[at + _SEEN] = int(now * 1000)
        words[at + _REQUESTS] += 1

    def take(self) -> Taken | None:
        """Give the half that is to be taken next, the same again until it is `emptied`; None where there are no notes."""
        if not self._opened:
            return None
        if self._places and not self._words[_start(self._words[_HALF]) + _USER]:
            self.close()  # what was noted is gone: the file was cut off from outside
            return None
        return _take(self._words, self._turned)

    def emptied(self, taken: Taken) -> None:
        """What was taken is kept elsewhere now."""
        if taken.table == self._words[_NUMBER]:  # else the table was made anew meanwhile
            _empty(self._words, taken.half)

    def close(self) -> None:
        """Let go of the table, for the next process."""
        if self._mapping is not None:
            self._words.release()
            readonly_mapping.unguard(self._mapping.address)
            self._mapping.unmap()
        self.forget()

    def _place(self, user: int, now: float) -> int | None:
        """Find, or make, the entry of this user in the window of this moment; None where there is no room."""
        if self._mapping is None and (not self._opened or self._may_move()):
            self._open()
        elif self._words[_MAGIC_AT] != _MAGIC:
            self.close()  # it was cut off from outside, or overwritten
            self._open()
        window = int(now // self.window_seconds)
        if window != self._window:
            self._window, self._window_ends = window, float((window + 1) * self.window_seconds)
            self._turned()
        at = self._places.get(user)
        if at is not None:
            return at
        if self._free >= self._end:
            return None
        at, words = self._free, self._words
        words[at + _WINDOW], words[at + _REQUESTS], words[at + _SEEN] = window, 0, int(now * 1000)
        words[at + _USER] = user  # last: nobody reads an entry that is half made
        self._free += _ENTRY_WORDS
        self._places[user] = at
        return at

    def _may_move(self) -> bool:
        """Whether to look for a file again: not while there is something in this process's own memory that nobody has kept yet."""
        half = self._words[_HALF]
        empty = self._words[_EMPTIED] >= half - 1 and not self._words[_start(half) + _USER]
        return empty and store.directory is not None and time.monotonic() >= self._again_at

    def _turned(self) -> None:
        """Write to the half that is current, behind what stands there, from now on."""
        words, start = self._words, _start(self._words[_HALF])
        self._places = {}
        self._free, self._end = start, start + _HALF_WORDS
        while self._free < self._end and words[self._free + _USER]:
            if words[self._free + _WINDOW] == self._window:
                self._places[words[self._free + _USER]] = self._free
            self._free += _ENTRY_WORDS

    def _open(self) -> None:
        self._opened = True
        try:
            if store.directory is not None:
                self._map(store.directory)
                self._again_at = 0.0
        except OSError as error:
            if not self._again_at:
                _log.warning("users are noted in this process's own memory: %s: %s", store.directory, error)
            self._again_at = time.monotonic() + _AGAIN_SECONDS
        if self._mapping is None and self._words[_MAGIC_AT] != _MAGIC:
            self._words[_NUMBER], self._words[_HALF], self._words[_MAGIC_AT] = _new_number(), 1, _MAGIC
        self._turned()

    def _map(self, directory: Path) -> None:
        """Map the first table that nobody has."""
        store.acquire()
        with lock_file.mutex:
            for number in range(TABLES):
                with _locked(directory / paths.users_file(number), make=True) as fd:
                    if fd is None:
                        continue
                    _require_table(fd)
                    mapping = Mapping(fd, _SIZE, paths.users_file(number))
                    readonly_mapping.guard(mapping.address, _SIZE)
                    self._mapping, self._words = mapping, mapping.bytes.cast("q")
                    return


def dead(directory: Path) -> Iterator[tuple[Path, Taken | None]]:
    """Give what is to be taken of each table that no process has, one half after the other; without any left it is removed.

    A half that was given is emptied when the next is asked for, so ask only when it is kept. What cannot be opened is passed over.
    """
    for path in sorted(directory.glob(f"*{paths.USERS}")):
        try:
            yield from _dead(path)
        except OSError as error:
            message = f"what {path} has noted cannot be taken: {error.strerror}"
            if message not in _told:
                _told.add(message)
                _log.warning("%s", message)


def _dead(path: Path) -> Iterator[tuple[Path, Taken | None]]:
    with _locked(path, make=False) as fd:
        if fd is None:
            return
        words = memoryview(bytearray(os.pread(fd, _SIZE, 0).ljust(_SIZE, b"\0"))).cast("q")
        size = os.fstat(fd).st_size
        if _valid(words, size):
            while (taken := _take(words, lambda: None)) is not None:
                os.pwrite(fd, words[:_HEADER_WORDS].tobytes(), 0)
                yield path, taken
                _empty(words, taken.half)
                os.pwrite(fd, words.tobytes(), 0)
        elif size:  # an empty one is all that a process could make on a full disk
            _log.warning("%s is damaged; what it has noted is lost", path)
        path.unlink(missing_ok=True)


def _take(words: memoryview[int], turned: Callable[[], None]) -> Taken | None:
    half = words[_HALF]
    if words[_EMPTIED] >= half - 1:
        if not words[_start(half) + _USER]:
            return None
        words[_HALF] = half + 1
        turned()
    else:
        half -= 1
    start = _start(half)
    rows = words[start : start + _HALF_WORDS].tolist()
    notes = []
    for at in range(0, _HALF_WORDS, _ENTRY_WORDS):
        if not rows[at]:
            break
        notes.append(Note(*rows[at : at + _ENTRY_WORDS]))
    return Taken(words[_NUMBER], half, notes)


def _empty(words: memoryview[int], half: int) -> None:
    start = _start(half)
    # From the first on: what is empty at its begin is taken for empty.
    words[start : start + _HALF_WORDS] = memoryview(bytes(8 * _HALF_WORDS)).cast("q")
    words[_EMPTIED] = half


def _start(half: int) -> int:
    return _HEADER_WORDS + (half & 1) * _HALF_WORDS


def _valid(words: memoryview[int], size: int) -> bool:
    return size == _SIZE and words[_MAGIC_AT] == _MAGIC and words[_HALF] >= 1 and words[_HALF] - 2 <= words[_EMPTIED] < words[_HALF]


def _require_table(fd: int) -> None:
    """Make the file a table where it is new, or damaged."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "it is no file; remove it")
    if found.st_size == _SIZE and _valid(memoryview(os.pread(fd, 8 * _HEADER_WORDS, 0)).cast("q"), found.st_size):
        return
    if found.st_size:
        _log.warning("a table of users was damaged; what it had noted is lost")
    os.ftruncate(fd, 0)
    os.posix_fallocate(fd, 0, _SIZE)
    words = [_MAGIC, _new_number(), 1, 0]
    os.pwrite(fd, b"".join(word.to_bytes(8, "little") for word in words), 0)


def _new_number() -> int:
    return secrets.randbits(62) + 1


@contextlib.contextmanager
def _locked(path: Path, *, make: bool) -> Iterator[int | None]:
    """Open a table that nobody has, for as long as this block lasts or the file is mapped; None where somebody has it."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if make else 0)
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        yield None
        return
    try:
        # One that was removed between both is nobody's.
        free = lock_file.try_lock(fd, _LOCKED) and os.fstat(fd).st_nlink > 0
        yield fd if free else None
    finally:
        os.close(fd)


def _forget_all() -> None:
    for table in list(_tables):
        table.forget()


os.register_at_fork(after_in_child=_forget_all)
